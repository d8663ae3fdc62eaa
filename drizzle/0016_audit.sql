CREATE TABLE "audit_checkpoints" (
	"tenant_id" varchar(100) NOT NULL,
	"seq" bigint NOT NULL,
	"hmac" varchar(43) NOT NULL,
	"signature" varchar(43) NOT NULL,
	CONSTRAINT "audit_checkpoints_tenant_id_pk" PRIMARY KEY("tenant_id")
);
--> statement-breakpoint
CREATE TABLE "audit_log" (
	"tenant_id" varchar(100) NOT NULL,
	"seq" bigint NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"actor" varchar(255),
	"role" varchar(11) NOT NULL,
	"action" varchar(32) NOT NULL,
	"outcome" varchar(7) NOT NULL,
	"code" varchar(64),
	"fields" text[] NOT NULL,
	"count" integer NOT NULL,
	"address" varchar(45),
	"request_id" varchar(128),
	"hmac" varchar(43) NOT NULL,
	CONSTRAINT "audit_log_tenant_id_seq_pk" PRIMARY KEY("tenant_id","seq")
);
--> statement-breakpoint
CREATE TABLE "audit_outbox" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_outbox_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"tenant_id" varchar(100) NOT NULL,
	"seq" bigint NOT NULL,
	"previous_hmac" varchar(43) NOT NULL
);
--> statement-breakpoint
CREATE TABLE "leases" (
	"name" varchar(32) PRIMARY KEY NOT NULL,
	"holder" uuid NOT NULL,
	"held_until" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "service_secrets" (
	"name" varchar(32) PRIMARY KEY NOT NULL,
	"sealed" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "audit_log_at_idx" ON "audit_log" USING btree ("at","tenant_id","seq");--> statement-breakpoint
CREATE INDEX "audit_log_actor_idx" ON "audit_log" USING btree ("actor","at","tenant_id","seq") WHERE "audit_log"."actor" is not null;--> statement-breakpoint
CREATE INDEX "audit_log_action_idx" ON "audit_log" USING btree ("action","at","tenant_id","seq");--> statement-breakpoint
CREATE INDEX "audit_log_outcome_idx" ON "audit_log" USING btree ("outcome","at","tenant_id","seq") WHERE "audit_log"."outcome" <> 'ok';--> statement-breakpoint
-- Written by hand from here on. The new tables lock nothing that a former version uses.
-- Refuses every operation on the table but those that the trigger lists, and these to everybody but a function of the
-- table's owner: there the current user is the owner, and the login is somebody else. Where the login owns
-- the table, nothing passes.
CREATE FUNCTION "audit_guard"() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = ANY (TG_ARGV) AND EXISTS (
		SELECT FROM pg_class WHERE oid = TG_RELID AND pg_get_userbyid(relowner) = current_user AND current_user <> session_user
	) THEN
		RETURN NULL;
	END IF;
	RAISE EXCEPTION '% refuses %', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege',
		HINT = 'Only audit_cut may cut a chain, and only while another role than the login owns it and the tables.';
END
$$;
--> statement-breakpoint
-- Cuts the chain of a tenant after a record, if that record is as given: the checkpoint replaces the records up to it.
-- Records of the last day stay, whoever calls this. Returns whether it was cut. SECURITY DEFINER and search_path: as in 0003.
CREATE FUNCTION "audit_cut"("chain" varchar, "upto" bigint, "upto_hmac" varchar, "signed" varchar)
	RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF NOT EXISTS (SELECT FROM audit_log WHERE tenant_id = chain AND seq = upto AND hmac = upto_hmac)
		OR EXISTS (SELECT FROM audit_log WHERE tenant_id = chain AND seq <= upto AND at > now() - interval '1 day') THEN
		RETURN false;
	END IF;
	INSERT INTO audit_checkpoints (tenant_id, seq, hmac, signature) VALUES (chain, upto, upto_hmac, signed)
	ON CONFLICT (tenant_id) DO UPDATE SET seq = excluded.seq, hmac = excluded.hmac, signature = excluded.signature
	WHERE audit_checkpoints.seq < excluded.seq;
	DELETE FROM audit_log WHERE tenant_id = chain AND seq <= upto;
	RETURN true;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION "audit_cut"(varchar, bigint, varchar, varchar) FROM PUBLIC;--> statement-breakpoint
CREATE TRIGGER "audit_log_guard" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_log" FOR EACH STATEMENT
	EXECUTE FUNCTION "audit_guard"('DELETE');--> statement-breakpoint
CREATE TRIGGER "audit_checkpoints_guard" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_checkpoints" FOR EACH STATEMENT
	EXECUTE FUNCTION "audit_guard"('UPDATE');--> statement-breakpoint
ALTER TABLE "audit_log" ENABLE ALWAYS TRIGGER "audit_log_guard";--> statement-breakpoint
ALTER TABLE "audit_checkpoints" ENABLE ALWAYS TRIGGER "audit_checkpoints_guard";
