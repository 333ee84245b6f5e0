-- WITHOUT ROWID is added by hand: both tables are looked up by their key only.
CREATE TABLE `identity_providers` (
	`name` text PRIMARY KEY NOT NULL,
	`body` text NOT NULL,
	`updated_at` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `sign_ins` (
	`uid` text PRIMARY KEY NOT NULL,
	`provider` text NOT NULL,
	`nonce_hash` text NOT NULL,
	`expires_at` integer NOT NULL,
	`token_hash` text
) WITHOUT ROWID;
--> statement-breakpoint
ALTER TABLE `endpoints` ADD `identity_by` text;--> statement-breakpoint
ALTER TABLE `endpoints` ADD `identity_until` integer;--> statement-breakpoint
CREATE INDEX `endpoints_identity` ON `endpoints` (`identity_by`) WHERE identity_by IS NOT NULL;