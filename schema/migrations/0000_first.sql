-- WITHOUT ROWID is added by hand: drizzle-kit can't write it, and it halves the rows written of these tables.
CREATE TABLE `authorities` (
	`slot` integer PRIMARY KEY NOT NULL,
	`id` text NOT NULL,
	`certificate_pem` text NOT NULL,
	`pin` text NOT NULL,
	`wrapped_key` text NOT NULL,
	`not_after` integer NOT NULL,
	`created_at` integer NOT NULL,
	`signer_certificate_pem` text NOT NULL,
	`wrapped_signer_key` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `ems` (
	`id` integer PRIMARY KEY NOT NULL,
	`serial` text NOT NULL,
	`fabric_id` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `invitation_spends` (
	`invitation_id` text NOT NULL,
	`key_hash` text NOT NULL,
	`uid` text NOT NULL,
	`at` integer NOT NULL,
	PRIMARY KEY(`invitation_id`, `key_hash`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `invitations` (
	`id` text PRIMARY KEY NOT NULL,
	`code_hash` text NOT NULL,
	`name` text NOT NULL,
	`group_name` text NOT NULL,
	`uses` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`created_at` integer NOT NULL,
	`withdrawn_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `invitations_code_hash_unique` ON `invitations` (`code_hash`);--> statement-breakpoint
CREATE TABLE `join_codes` (
	`id` text PRIMARY KEY NOT NULL,
	`code_hash` text NOT NULL,
	`name` text NOT NULL,
	`expires_at` integer NOT NULL,
	`created_at` integer NOT NULL,
	`spent_by` text
);
--> statement-breakpoint
CREATE UNIQUE INDEX `join_codes_code_hash_unique` ON `join_codes` (`code_hash`);--> statement-breakpoint
CREATE TABLE `avatars` (
	`fingerprint` text PRIMARY KEY NOT NULL,
	`media_type` text NOT NULL,
	`image` text NOT NULL,
	`uid` text NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `certificates` (
	`serial` text PRIMARY KEY NOT NULL,
	`uid` text NOT NULL,
	`purpose` text NOT NULL,
	`os_user` text DEFAULT '' NOT NULL,
	`key_hash` text NOT NULL,
	`pem` text NOT NULL,
	`not_after` integer NOT NULL,
	`state` text NOT NULL,
	`issued_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `certificates_uid` ON `certificates` (`uid`);--> statement-breakpoint
CREATE TABLE `endpoint_sections` (
	`uid` text NOT NULL,
	`section` text NOT NULL,
	`hash` text NOT NULL,
	`at` integer NOT NULL,
	`body` blob NOT NULL,
	PRIMARY KEY(`uid`, `section`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `endpoint_tags` (
	`tag_uid` text NOT NULL,
	`uid` text NOT NULL,
	`state` text NOT NULL,
	`valid_until` integer,
	`since` integer NOT NULL,
	PRIMARY KEY(`tag_uid`, `uid`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `endpoints` (
	`uid` text PRIMARY KEY NOT NULL,
	`version` integer DEFAULT 0 NOT NULL,
	`registered` integer NOT NULL,
	`online` integer DEFAULT false NOT NULL,
	`on_fabric` integer DEFAULT false NOT NULL,
	`quarantined` integer DEFAULT false NOT NULL,
	`group_name` text NOT NULL,
	`host_name` text NOT NULL,
	`os` text NOT NULL,
	`account` text DEFAULT '' NOT NULL,
	`agent_version` text NOT NULL,
	`protocol` text NOT NULL,
	`enrolled_at` integer NOT NULL,
	`last_report_at` integer,
	`deregistered_at` integer,
	`deregistration` text,
	`sequence` integer DEFAULT 0 NOT NULL,
	`rules_revision` integer DEFAULT 0 NOT NULL,
	`verdicts` text DEFAULT '{}' NOT NULL,
	`tags` text DEFAULT '[]' NOT NULL,
	`certificates` text DEFAULT '[]' NOT NULL,
	`addresses` text DEFAULT '{"ips":[],"macs":[]}' NOT NULL,
	`next_due` integer
);
--> statement-breakpoint
CREATE INDEX `endpoints_due` ON `endpoints` (`next_due`) WHERE next_due IS NOT NULL;--> statement-breakpoint
CREATE INDEX `endpoints_rules` ON `endpoints` (`rules_revision`);--> statement-breakpoint
CREATE INDEX `endpoints_registered` ON `endpoints` (`registered`);--> statement-breakpoint
CREATE TABLE `packages` (
	`id` integer PRIMARY KEY NOT NULL,
	`ecosystem` text NOT NULL,
	`name` text NOT NULL,
	`version` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `packages_name` ON `packages` (`ecosystem`,`name`,`version`);--> statement-breakpoint
CREATE TABLE `change_log` (
	`revision` integer PRIMARY KEY NOT NULL,
	`mark` text NOT NULL,
	`at` integer NOT NULL,
	`uid` text,
	`tables` text NOT NULL,
	`entry` text
);
--> statement-breakpoint
CREATE TABLE `rules_state` (
	`id` integer PRIMARY KEY NOT NULL,
	`revision` integer NOT NULL,
	`changed_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `endpoint_policies` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`enabled` integer NOT NULL,
	`position` integer NOT NULL,
	`groups` text NOT NULL,
	`profile_id` text NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `licences` (
	`id` integer PRIMARY KEY NOT NULL,
	`seats` integer,
	`features` text NOT NULL,
	`ends_at` integer,
	`issued_at` integer NOT NULL,
	`document` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `profiles` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`settings` text NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `rule_sets` (
	`id` text PRIMARY KEY NOT NULL,
	`tag_uid` text NOT NULL,
	`body` text NOT NULL,
	`updated_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `tags` (
	`uid` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`type` integer NOT NULL,
	`description` text DEFAULT '' NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `tags_name_unique` ON `tags` (`name`);--> statement-breakpoint
CREATE TABLE `gateway_subscriptions` (
	`uid` text NOT NULL,
	`serial` text NOT NULL,
	PRIMARY KEY(`uid`, `serial`)
) WITHOUT ROWID;
--> statement-breakpoint
CREATE TABLE `gateways` (
	`serial` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`state` text NOT NULL,
	`reason` text NOT NULL,
	`key_hash` text NOT NULL,
	`fingerprint` text NOT NULL,
	`csr` text NOT NULL,
	`address` text DEFAULT '' NOT NULL,
	`certificate_serial` text,
	`previous_serial` text,
	`certificate_pem` text,
	`not_after` integer,
	`is_root` integer DEFAULT false NOT NULL,
	`vouched_by` text,
	`share_mode` integer DEFAULT 1 NOT NULL,
	`selected_serials` text DEFAULT '[]' NOT NULL,
	`share_tag_types` text DEFAULT '[1,2,3,4]' NOT NULL,
	`joined_at` integer NOT NULL,
	`authorised_at` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `gateways_key_hash_unique` ON `gateways` (`key_hash`);