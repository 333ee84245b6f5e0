CREATE TABLE `packs` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`version` text NOT NULL,
	`issued_at` integer NOT NULL,
	`description` text NOT NULL,
	`imported_at` integer NOT NULL,
	`mark` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `packs_name_unique` ON `packs` (`name`);--> statement-breakpoint
ALTER TABLE `endpoints` ADD `assigned` text DEFAULT '[]' NOT NULL;--> statement-breakpoint
ALTER TABLE `rule_sets` ADD `pack_id` text;