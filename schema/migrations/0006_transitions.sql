ALTER TABLE `endpoints` ADD `tag_changes` text DEFAULT '{"at":[],"flappingSince":null}' NOT NULL;--> statement-breakpoint
ALTER TABLE `rule_changes` ADD `stands_until` integer;