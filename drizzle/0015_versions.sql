-- Locks tenant_configs in SHARE ROW EXCLUSIVE mode: reads go on, writes wait until the commit, some milliseconds later.
CREATE TABLE "tenant_config_versions" (
	"tenant_id" varchar(100) NOT NULL,
	"version" integer NOT NULL,
	"changed_at" timestamp with time zone DEFAULT now() NOT NULL,
	"actor" varchar(255),
	"changed" text[] NOT NULL,
	"batch_id" uuid,
	"waba_id" varchar(255),
	"phone_number_id" varchar(255),
	"access_token" text,
	"fb_app_id" varchar(255),
	"fb_app_secret" text,
	"callback_url" varchar(500),
	"redirect_url" varchar(500),
	"verify_token" text,
	"token_expires_at" timestamp with time zone,
	"refresh_token" text,
	"user_id" varchar(255),
	"is_active" boolean NOT NULL,
	"onboarding_completed" boolean NOT NULL,
	"onboarded_at" timestamp with time zone,
	"last_verified_at" timestamp with time zone,
	"created_at" timestamp with time zone NOT NULL,
	CONSTRAINT "tenant_config_versions_tenant_id_version_pk" PRIMARY KEY("tenant_id","version")
);
--> statement-breakpoint
CREATE TABLE "version_policy" (
	"is_present" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"retention_days" integer NOT NULL,
	"max_per_tenant" integer NOT NULL,
	CONSTRAINT "version_policy_is_one_row" CHECK ("version_policy"."is_present")
);
--> statement-breakpoint
CREATE INDEX "tenant_config_versions_changed_at_idx" ON "tenant_config_versions" USING btree ("changed_at");--> statement-breakpoint
CREATE INDEX "tenant_config_versions_batch_idx" ON "tenant_config_versions" USING btree ("batch_id","tenant_id","version") WHERE "tenant_config_versions"."batch_id" is not null;--> statement-breakpoint
INSERT INTO "version_policy" ("retention_days", "max_per_tenant") VALUES (30, 50);--> statement-breakpoint
-- FROM CURRENT, SECURITY DEFINER and the rights: as in 0003. Without enable_seqscan = off a connection would keep a plan that it made while
-- the table was small, and scan the table for each row. The writer holds the lock of the row, so no other one takes the same version number.
-- An actor acts for its own tenant alone: another one must not learn its name.
CREATE FUNCTION "tenant_config_versions_update"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
	SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
	policy version_policy;
	number integer;
	names text[] := array_remove(ARRAY[
		CASE WHEN OLD.waba_id IS DISTINCT FROM NEW.waba_id THEN 'waba_id' END,
		CASE WHEN OLD.phone_number_id IS DISTINCT FROM NEW.phone_number_id THEN 'phone_number_id' END,
		CASE WHEN OLD.access_token IS DISTINCT FROM NEW.access_token THEN 'access_token' END,
		CASE WHEN OLD.fb_app_id IS DISTINCT FROM NEW.fb_app_id THEN 'fb_app_id' END,
		CASE WHEN OLD.fb_app_secret IS DISTINCT FROM NEW.fb_app_secret THEN 'fb_app_secret' END,
		CASE WHEN OLD.callback_url IS DISTINCT FROM NEW.callback_url THEN 'callback_url' END,
		CASE WHEN OLD.redirect_url IS DISTINCT FROM NEW.redirect_url THEN 'redirect_url' END,
		CASE WHEN OLD.verify_token IS DISTINCT FROM NEW.verify_token THEN 'verify_token' END,
		CASE WHEN OLD.token_expires_at IS DISTINCT FROM NEW.token_expires_at THEN 'token_expires_at' END,
		CASE WHEN OLD.refresh_token IS DISTINCT FROM NEW.refresh_token THEN 'refresh_token' END,
		CASE WHEN OLD.user_id IS DISTINCT FROM NEW.user_id THEN 'user_id' END,
		CASE WHEN OLD.is_active IS DISTINCT FROM NEW.is_active THEN 'is_active' END,
		CASE WHEN OLD.onboarding_completed IS DISTINCT FROM NEW.onboarding_completed THEN 'onboarding_completed' END,
		CASE WHEN OLD.onboarded_at IS DISTINCT FROM NEW.onboarded_at THEN 'onboarded_at' END,
		CASE WHEN OLD.created_at IS DISTINCT FROM NEW.created_at THEN 'created_at' END
	], NULL);
BEGIN
	-- With the id the tenant loses its row.
	IF NEW.tenant_id <> OLD.tenant_id THEN
		names := '{deleted}';
	END IF;
	SELECT * INTO policy FROM version_policy WHERE is_present;
	IF names = '{}' OR policy.retention_days = 0 THEN
		RETURN NULL;
	END IF;
	INSERT INTO tenant_config_versions (tenant_id, version, actor, changed,
		waba_id, phone_number_id, access_token, fb_app_id, fb_app_secret, callback_url, redirect_url,
		verify_token, token_expires_at, refresh_token, user_id, is_active, onboarding_completed, onboarded_at,
		last_verified_at, created_at)
	VALUES (OLD.tenant_id, 1 + coalesce((SELECT max(version) FROM tenant_config_versions WHERE tenant_id = OLD.tenant_id), 0),
		CASE WHEN current_setting('app.tenant_id', true) = OLD.tenant_id THEN nullif(current_setting('app.actor', true), '')::varchar(255) END, names,
		OLD.waba_id, OLD.phone_number_id, OLD.access_token, OLD.fb_app_id, OLD.fb_app_secret, OLD.callback_url, OLD.redirect_url,
		OLD.verify_token, OLD.token_expires_at, OLD.refresh_token, OLD.user_id, OLD.is_active, OLD.onboarding_completed, OLD.onboarded_at,
		OLD.last_verified_at, OLD.created_at)
	RETURNING version INTO number;
	-- The triggers that count the keys fire for each DELETE, also of no row.
	IF number > policy.max_per_tenant THEN
		DELETE FROM tenant_config_versions WHERE tenant_id = OLD.tenant_id AND version <= number - policy.max_per_tenant;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
-- EXECUTE plans for the number of rows: one, or all tenants.
CREATE FUNCTION "tenant_config_versions_delete"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
	SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
	policy version_policy;
BEGIN
	SELECT * INTO policy FROM version_policy WHERE is_present;
	IF policy.retention_days = 0 THEN
		RETURN NULL;
	END IF;
	EXECUTE format($sql$
		WITH made AS (
			INSERT INTO tenant_config_versions (tenant_id, version, actor, changed, batch_id,
				waba_id, phone_number_id, access_token, fb_app_id, fb_app_secret, callback_url, redirect_url,
				verify_token, token_expires_at, refresh_token, user_id, is_active, onboarding_completed, onboarded_at,
				last_verified_at, created_at)
			SELECT tenant_id, 1 + coalesce((SELECT max(version) FROM tenant_config_versions WHERE tenant_id = former.tenant_id), 0),
				CASE WHEN current_setting('app.tenant_id', true) = tenant_id THEN nullif(current_setting('app.actor', true), '')::varchar(255) END,
				'{deleted}', nullif(current_setting('app.batch_id', true), '')::uuid,
				waba_id, phone_number_id, access_token, fb_app_id, fb_app_secret, callback_url, redirect_url,
				verify_token, token_expires_at, refresh_token, user_id, is_active, onboarding_completed, onboarded_at,
				last_verified_at, created_at
			FROM %I AS former
			RETURNING tenant_id, version
		)
		DELETE FROM tenant_config_versions AS older USING made
		WHERE older.tenant_id = made.tenant_id AND older.version <= made.version - $1
	$sql$, CASE TG_OP WHEN 'DELETE' THEN 'gone' ELSE 'tenant_configs' END) USING policy.max_per_tenant;
	RETURN NULL;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION "tenant_config_versions_update"(), "tenant_config_versions_delete"() FROM PUBLIC;--> statement-breakpoint
-- A rotation of the keys, which sets app.resealing in its transactions, changes nothing that the values mean.
CREATE TRIGGER "tenant_config_versions_update" AFTER UPDATE ON "tenant_configs" FOR EACH ROW
	WHEN (current_setting('app.resealing', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION "tenant_config_versions_update"();--> statement-breakpoint
CREATE TRIGGER "tenant_config_versions_delete" AFTER DELETE ON "tenant_configs" REFERENCING OLD TABLE AS gone FOR EACH STATEMENT
	EXECUTE FUNCTION "tenant_config_versions_delete"();--> statement-breakpoint
CREATE TRIGGER "tenant_config_versions_truncate" BEFORE TRUNCATE ON "tenant_configs" FOR EACH STATEMENT
	EXECUTE FUNCTION "tenant_config_versions_delete"();--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_config_versions_update", ENABLE ALWAYS TRIGGER "tenant_config_versions_delete",
	ENABLE ALWAYS TRIGGER "tenant_config_versions_truncate";--> statement-breakpoint
-- The new table is empty: the triggers count all of its values.
CREATE OR REPLACE FUNCTION "config_counts_recount"() RETURNS integer LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	wrong integer;
BEGIN
	PERFORM pg_advisory_xact_lock(hashtext('whatsapp-tenant-config counts'));
	PERFORM set_config('tenant_config.writes_counts', 'on', true);
	INSERT INTO config_count_changes (source, name, at, count)
	SELECT source, name, at, sum(count) FROM (
		SELECT 'tenant_configs' AS source, name, at, count(*) AS count
		FROM tenant_configs, tenant_config_counts(is_active, onboarding_completed, phone_number_id IS NOT NULL, access_token IS NOT NULL, token_expires_at) GROUP BY name, at
		UNION ALL SELECT 'token_watch', status, '-infinity', count(*) FROM token_watch GROUP BY status
		UNION ALL SELECT 'phone_numbers', number_status, '-infinity', count(*) FROM phone_numbers GROUP BY number_status
		UNION ALL SELECT 'keys of tenant_configs', key_id, '-infinity', count(*)
		FROM tenant_configs, sealing_keys(ARRAY[access_token, fb_app_secret, verify_token, refresh_token]) GROUP BY key_id
		UNION ALL SELECT 'keys of tenant_config_versions', key_id, '-infinity', count(*)
		FROM tenant_config_versions, sealing_keys(ARRAY[access_token, fb_app_secret, verify_token, refresh_token]) GROUP BY key_id
		UNION ALL SELECT 'keys of onboardings', key_id, '-infinity', count(*)
		FROM onboardings, sealing_keys(ARRAY[access_token, former ->> 'access_token']) GROUP BY key_id
		UNION ALL SELECT source, name, at, -count FROM config_counts
		UNION ALL SELECT source, name, at, -count FROM config_count_changes
	) AS counted GROUP BY source, name, at HAVING sum(count) <> 0;
	GET DIAGNOSTICS wrong = ROW_COUNT;
	PERFORM set_config('tenant_config.writes_counts', 'off', true);
	RETURN wrong;
END
$$;
--> statement-breakpoint
CREATE TRIGGER "tenant_config_versions_keys_insert" AFTER INSERT ON "tenant_config_versions" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "secrets_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_config_versions_keys_update" AFTER UPDATE ON "tenant_config_versions" REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "secrets_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_config_versions_keys_delete" AFTER DELETE ON "tenant_config_versions" REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION "secrets_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_config_versions_keys_truncate" AFTER TRUNCATE ON "tenant_config_versions" FOR EACH STATEMENT EXECUTE FUNCTION "config_counts_emptied"();--> statement-breakpoint
ALTER TABLE "tenant_config_versions" ENABLE ALWAYS TRIGGER "tenant_config_versions_keys_insert", ENABLE ALWAYS TRIGGER "tenant_config_versions_keys_update",
	ENABLE ALWAYS TRIGGER "tenant_config_versions_keys_delete", ENABLE ALWAYS TRIGGER "tenant_config_versions_keys_truncate";
