CREATE TABLE "events_outbox" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"type" varchar(64) NOT NULL,
	"tenant_id" varchar(100) NOT NULL,
	"from" varchar(15) NOT NULL,
	"to" varchar(15) NOT NULL,
	"reason" varchar(64),
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"attempts" integer DEFAULT 0 NOT NULL,
	"next_attempt_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "oauth_states" (
	"state_hash" varchar(43) PRIMARY KEY NOT NULL,
	"tenant_id" varchar(100) NOT NULL,
	"user_id" varchar(255),
	"expires_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "onboardings" (
	"id" uuid PRIMARY KEY DEFAULT gen_random_uuid() NOT NULL,
	"tenant_id" varchar(100) NOT NULL,
	"user_id" varchar(255),
	"code_hash" varchar(43) NOT NULL,
	"status" varchar(11) DEFAULT 'in_progress' NOT NULL,
	"steps" jsonb NOT NULL,
	"waba_id" varchar(255),
	"phone_number_id" varchar(255),
	"pin_given" boolean DEFAULT false NOT NULL,
	"access_token" text,
	"token_expires_at" timestamp with time zone,
	"holder" uuid,
	"held_until" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "onboardings_code_hash_key" UNIQUE("code_hash")
);
--> statement-breakpoint
CREATE TABLE "token_watch" (
	"tenant_id" varchar(100) PRIMARY KEY NOT NULL,
	"status" varchar(15) DEFAULT 'unverified' NOT NULL,
	"reason" varchar(64),
	"reported" varchar(80),
	"checked_at" timestamp with time zone,
	"next_check_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "webhook_deliveries" (
	"digest" varchar(43) PRIMARY KEY NOT NULL,
	"received_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE INDEX "events_outbox_due_idx" ON "events_outbox" USING btree ("next_attempt_at");--> statement-breakpoint
CREATE INDEX "events_outbox_tenant_idx" ON "events_outbox" USING btree ("tenant_id","at","id");--> statement-breakpoint
CREATE INDEX "oauth_states_expires_at_idx" ON "oauth_states" USING btree ("expires_at");--> statement-breakpoint
CREATE INDEX "onboardings_tenant_idx" ON "onboardings" USING btree ("tenant_id","created_at");--> statement-breakpoint
CREATE INDEX "token_watch_due_idx" ON "token_watch" USING btree ("next_check_at");--> statement-breakpoint
CREATE INDEX "token_watch_status_idx" ON "token_watch" USING btree ("status","tenant_id" collate "C");--> statement-breakpoint
CREATE INDEX "webhook_deliveries_received_at_idx" ON "webhook_deliveries" USING btree ("received_at");--> statement-breakpoint
DROP INDEX "tenant_configs_list_idx";--> statement-breakpoint
CREATE INDEX "tenant_configs_list_idx" ON "tenant_configs" USING btree ("tenant_id" collate "C","is_active","onboarding_completed");--> statement-breakpoint
CREATE TRIGGER "onboardings_touch" BEFORE UPDATE ON "onboardings" FOR EACH ROW EXECUTE FUNCTION "tenant_configs_touch"();--> statement-breakpoint
INSERT INTO "token_watch" ("tenant_id") SELECT "tenant_id" FROM "tenant_configs" WHERE "access_token" IS NOT NULL;--> statement-breakpoint
CREATE FUNCTION "token_watch_insert"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO token_watch (tenant_id) SELECT tenant_id FROM fresh WHERE access_token IS NOT NULL ON CONFLICT DO NOTHING;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "token_watch_update"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.access_token IS NULL THEN
		DELETE FROM token_watch WHERE tenant_id = NEW.tenant_id;
	ELSIF NEW.access_token IS DISTINCT FROM OLD.access_token THEN
		INSERT INTO token_watch (tenant_id) VALUES (NEW.tenant_id)
		ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, next_check_at = now();
	ELSE
		UPDATE token_watch SET next_check_at = now() WHERE tenant_id = NEW.tenant_id;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "tenant_configs_gone"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'TRUNCATE' THEN
		DELETE FROM token_watch;
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL WHERE status = 'in_progress' OR holder IS NOT NULL;
	ELSE
		DELETE FROM token_watch USING gone WHERE token_watch.tenant_id = gone.tenant_id;
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL FROM gone
		WHERE onboardings.tenant_id = gone.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "tenant_configs_switched"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF NEW.is_active THEN
		UPDATE token_watch SET next_check_at = now() WHERE tenant_id = NEW.tenant_id;
	ELSE
		UPDATE onboardings SET status = 'failed', access_token = NULL, holder = NULL
		WHERE tenant_id = NEW.tenant_id AND (status = 'in_progress' OR holder IS NOT NULL);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER "token_watch_insert" AFTER INSERT ON "tenant_configs" REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION "token_watch_insert"();--> statement-breakpoint
CREATE TRIGGER "token_watch_update" AFTER UPDATE OF "access_token", "token_expires_at" ON "tenant_configs" FOR EACH ROW
	WHEN (OLD.access_token IS DISTINCT FROM NEW.access_token OR OLD.token_expires_at IS DISTINCT FROM NEW.token_expires_at) EXECUTE FUNCTION "token_watch_update"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_switched" AFTER UPDATE OF "is_active" ON "tenant_configs" FOR EACH ROW
	WHEN (OLD.is_active IS DISTINCT FROM NEW.is_active) EXECUTE FUNCTION "tenant_configs_switched"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_deleted" AFTER DELETE ON "tenant_configs" REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_gone"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_truncated" AFTER TRUNCATE ON "tenant_configs" FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_gone"();
