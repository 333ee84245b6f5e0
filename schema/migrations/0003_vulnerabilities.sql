-- WITHOUT ROWID is added by hand, and `packages`, which was empty, is made anew. Stored software lists are dropped: they are kept as ids from here on, and agents send them again.
CREATE TABLE `inventories` (
	`number` integer PRIMARY KEY NOT NULL,
	`uid` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `inventories_uid_unique` ON `inventories` (`uid`);--> statement-breakpoint
CREATE TABLE `package_holders` (
	`package_id` integer NOT NULL,
	`word` integer NOT NULL,
	`bits` integer NOT NULL,
	PRIMARY KEY(`package_id`, `word`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `stale_inventories` (
	`word` integer PRIMARY KEY NOT NULL,
	`bits` integer NOT NULL,
	`mark` integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE `advisories` (
	`id` text PRIMARY KEY NOT NULL,
	`source` text NOT NULL,
	`modified_at` integer NOT NULL,
	`withdrawn` integer NOT NULL,
	`severity` text NOT NULL,
	`summary` text NOT NULL,
	`cves` text NOT NULL,
	`named` text NOT NULL,
	`revision` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `advisories_revision` ON `advisories` (`revision`);--> statement-breakpoint
CREATE TABLE `advisory_cves` (
	`cve` text NOT NULL,
	`advisory` text NOT NULL,
	`severity` text NOT NULL,
	PRIMARY KEY(`cve`, `advisory`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `advisory_feeds` (
	`ecosystem` text NOT NULL,
	`source` text NOT NULL,
	`as_of` integer NOT NULL,
	PRIMARY KEY(`ecosystem`, `source`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `advisory_packages` (
	`ecosystem` text NOT NULL,
	`name` text NOT NULL,
	`advisory` text NOT NULL,
	`severity` text NOT NULL,
	`versions` text NOT NULL,
	PRIMARY KEY(`ecosystem`, `name`, `advisory`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `advisory_state` (
	`id` integer PRIMARY KEY NOT NULL,
	`revision` integer NOT NULL,
	`matched_through` integer NOT NULL,
	`renewed_at` integer DEFAULT 0 NOT NULL
);
--> statement-breakpoint
CREATE TABLE `affected_packages` (
	`package_id` integer NOT NULL,
	`advisory` text NOT NULL,
	`severity` text NOT NULL,
	`fixed` text,
	PRIMARY KEY(`package_id`, `advisory`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE INDEX `affected_packages_advisory` ON `affected_packages` (`advisory`);--> statement-breakpoint
DROP TABLE `packages`;--> statement-breakpoint
CREATE TABLE `packages` (
	`id` integer PRIMARY KEY NOT NULL,
	`ecosystem` text NOT NULL,
	`name` text NOT NULL,
	`version` text NOT NULL,
	`subject` text NOT NULL,
	`subject_version` text NOT NULL,
	`orphaned_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `packages_subject` ON `packages` (`ecosystem`,`subject`,`subject_version`,`name`,`version`);--> statement-breakpoint
CREATE INDEX `packages_orphaned` ON `packages` (`orphaned_at`) WHERE orphaned_at IS NOT NULL;--> statement-breakpoint
CREATE INDEX `packages_name` ON `packages` (`name`);--> statement-breakpoint
INSERT INTO `advisory_state` (`id`, `revision`, `matched_through`) VALUES (1, 0, 0);--> statement-breakpoint
DELETE FROM `endpoint_sections` WHERE `section` = 'software';
