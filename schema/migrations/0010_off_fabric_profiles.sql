ALTER TABLE `endpoints` ADD `profile_moved_at` integer;--> statement-breakpoint
ALTER TABLE `endpoint_policies` ADD `off_fabric_profile_id` text;