ALTER TABLE `invitations` ADD `ownership` text;--> statement-breakpoint
ALTER TABLE `endpoints` ADD `ownership` text;