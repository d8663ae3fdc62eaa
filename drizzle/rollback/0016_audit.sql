DROP FUNCTION "audit_cut"(varchar, bigint, varchar, varchar);
--> statement-breakpoint
DROP TABLE "audit_log", "audit_checkpoints", "audit_outbox", "leases", "service_secrets";
--> statement-breakpoint
DROP FUNCTION "audit_guard"();
