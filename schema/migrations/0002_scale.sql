-- Pictures are kept by endpoint: written by hand as a new table, for the key can't be altered. No table has foreign keys to switch off.
CREATE TABLE `rule_changes` (
	`revision` integer PRIMARY KEY NOT NULL,
	`rule_set_id` text NOT NULL,
	`systems` text NOT NULL
);
--> statement-breakpoint
DROP INDEX `endpoints_rules`;--> statement-breakpoint
ALTER TABLE `avatars` RENAME TO `avatars_by_fingerprint`;--> statement-breakpoint
CREATE TABLE `avatars` (
	`uid` text NOT NULL,
	`fingerprint` text NOT NULL,
	`media_type` text NOT NULL,
	`image` text NOT NULL,
	`at` integer NOT NULL,
	PRIMARY KEY(`uid`, `fingerprint`)
);
--> statement-breakpoint
INSERT INTO `avatars` (`uid`, `fingerprint`, `media_type`, `image`, `at`) SELECT `uid`, `fingerprint`, `media_type`, `image`, `at` FROM `avatars_by_fingerprint`;--> statement-breakpoint
DROP TABLE `avatars_by_fingerprint`;--> statement-breakpoint
CREATE INDEX `avatars_fingerprint` ON `avatars` (`fingerprint`);
