-- Locks vault_keys in ACCESS EXCLUSIVE mode until the commit, some milliseconds later. A former version reads it at its start.
ALTER TABLE "vault_keys" ADD COLUMN "format" varchar(2) DEFAULT 'v1' NOT NULL;--> statement-breakpoint
ALTER TABLE "vault_keys" ADD COLUMN "seals" bigint DEFAULT 0 NOT NULL;
