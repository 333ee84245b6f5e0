ALTER TABLE `gateway_revocations` ADD `cause` text DEFAULT 'revoked' NOT NULL;--> statement-breakpoint
ALTER TABLE `gateway_revocations` ADD `gateway` text DEFAULT '' NOT NULL;