ALTER TABLE `endpoints` ADD `fabric_by` text;--> statement-breakpoint
ALTER TABLE `endpoints` ADD `fabric_until` integer;--> statement-breakpoint
CREATE INDEX `endpoints_fabric` ON `endpoints` (`fabric_by`) WHERE fabric_by IS NOT NULL;--> statement-breakpoint
ALTER TABLE `gateways` ADD `fabric` text;--> statement-breakpoint
ALTER TABLE `sightings` ADD `local` integer DEFAULT false NOT NULL;