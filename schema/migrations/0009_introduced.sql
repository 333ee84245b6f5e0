ALTER TABLE `inventories` ADD `introduced` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `inventories` ADD `introduced_since` integer DEFAULT 0 NOT NULL;