CREATE TABLE `endpoint_macs` (
	`mac` text NOT NULL,
	`uid` text NOT NULL,
	PRIMARY KEY(`mac`, `uid`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `gateway_revocations` (
	`certificate_serial` text PRIMARY KEY NOT NULL,
	`not_after` integer NOT NULL,
	`at` integer NOT NULL
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `sightings` (
	`serial` text NOT NULL,
	`kind` text NOT NULL,
	`vdom` text NOT NULL,
	`ip` text NOT NULL,
	`uid` text NOT NULL,
	`mac` text NOT NULL,
	`interface` text NOT NULL,
	`seen_at` integer NOT NULL,
	`told` text DEFAULT '' NOT NULL,
	PRIMARY KEY(`serial`, `kind`, `vdom`, `ip`, `uid`)
) WITHOUT ROWID;
--> statement-breakpoint
ALTER TABLE `certificates` ADD `ended_at` integer;--> statement-breakpoint
CREATE INDEX `certificates_revoked` ON `certificates` (`not_after`) WHERE state = 'revoked';--> statement-breakpoint
ALTER TABLE `endpoints` ADD `public_ip` text DEFAULT '' NOT NULL;--> statement-breakpoint
ALTER TABLE `gateways` ADD `vouched_until` integer;--> statement-breakpoint
ALTER TABLE `gateways` ADD `neighbours_at` integer;--> statement-breakpoint
ALTER TABLE `gateways` ADD `connections_at` integer;--> statement-breakpoint
INSERT INTO `endpoint_macs` (`mac`, `uid`) SELECT DISTINCT m.value, e.uid FROM `endpoints` e, json_each(e.addresses, '$.macs') m WHERE e.registered = 1;
