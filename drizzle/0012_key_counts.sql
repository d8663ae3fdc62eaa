-- Locks tenant_configs and onboardings in SHARE ROW EXCLUSIVE mode: reads go on, writes wait until the commit, some milliseconds later.
-- The ids of the keys that sealed some values. It has no search_path of its own: PostgreSQL inlines it so.
CREATE FUNCTION "sealing_keys"("sealed" text[]) RETURNS TABLE ("key_id" text) LANGUAGE sql IMMUTABLE AS $$
	SELECT split_part(value, '.', 2) FROM unnest(sealed) AS value
	WHERE left(value, 3) IN ('v1.', 'v2.') AND strpos(substr(value, 4, 33), '.') > 1
$$;
--> statement-breakpoint
-- FROM CURRENT, SECURITY DEFINER and the rights: as in 0003. A rotation is counted, too.
CREATE FUNCTION "secrets_counted"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO config_count_changes (source, name, count)
		SELECT 'keys of ' || TG_TABLE_NAME, key_id, count(*) FROM added, sealing_keys(ARRAY[access_token, fb_app_secret, verify_token, refresh_token]) GROUP BY key_id;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO config_count_changes (source, name, count)
		SELECT 'keys of ' || TG_TABLE_NAME, key_id, -count(*) FROM removed, sealing_keys(ARRAY[access_token, fb_app_secret, verify_token, refresh_token]) GROUP BY key_id;
	ELSE
		INSERT INTO config_count_changes (source, name, count)
		SELECT 'keys of ' || TG_TABLE_NAME, key_id, sum(count) FROM (
			SELECT key_id, 1 AS count FROM added, sealing_keys(ARRAY[access_token, fb_app_secret, verify_token, refresh_token])
			UNION ALL SELECT key_id, -1 FROM removed, sealing_keys(ARRAY[access_token, fb_app_secret, verify_token, refresh_token])
		) AS both_states GROUP BY key_id HAVING sum(count) <> 0;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "onboarding_tokens_counted"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO config_count_changes (source, name, count)
		SELECT 'keys of ' || TG_TABLE_NAME, key_id, count(*) FROM added, sealing_keys(ARRAY[access_token, former ->> 'access_token']) GROUP BY key_id;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO config_count_changes (source, name, count)
		SELECT 'keys of ' || TG_TABLE_NAME, key_id, -count(*) FROM removed, sealing_keys(ARRAY[access_token, former ->> 'access_token']) GROUP BY key_id;
	ELSE
		INSERT INTO config_count_changes (source, name, count)
		SELECT 'keys of ' || TG_TABLE_NAME, key_id, sum(count) FROM (
			SELECT key_id, 1 AS count FROM added, sealing_keys(ARRAY[access_token, former ->> 'access_token'])
			UNION ALL SELECT key_id, -1 FROM removed, sealing_keys(ARRAY[access_token, former ->> 'access_token'])
		) AS both_states GROUP BY key_id HAVING sum(count) <> 0;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "config_counts_emptied"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	-- Such a transaction does not see the changes that were committed since its snapshot, and TRUNCATE removes their rows too.
	IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
		RAISE EXCEPTION 'TRUNCATE of % needs a transaction of isolation level read committed', TG_TABLE_NAME USING ERRCODE = 'feature_not_supported';
	END IF;
	INSERT INTO config_count_changes (source, name, at, count)
	SELECT source, name, at, -sum(count)
	FROM (SELECT * FROM config_counts UNION ALL SELECT * FROM config_count_changes) AS counted
	WHERE source IN (TG_TABLE_NAME, 'keys of ' || TG_TABLE_NAME) GROUP BY source, name, at HAVING sum(count) <> 0;
	RETURN NULL;
END
$$;
--> statement-breakpoint
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
REVOKE EXECUTE ON FUNCTION "secrets_counted"(), "onboarding_tokens_counted"() FROM PUBLIC;--> statement-breakpoint
CREATE TRIGGER "tenant_configs_keys_insert" AFTER INSERT ON "tenant_configs" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "secrets_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_keys_update" AFTER UPDATE ON "tenant_configs" REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "secrets_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_keys_delete" AFTER DELETE ON "tenant_configs" REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION "secrets_counted"();--> statement-breakpoint
CREATE TRIGGER "onboardings_keys_insert" AFTER INSERT ON "onboardings" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "onboarding_tokens_counted"();--> statement-breakpoint
CREATE TRIGGER "onboardings_keys_update" AFTER UPDATE ON "onboardings" REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "onboarding_tokens_counted"();--> statement-breakpoint
CREATE TRIGGER "onboardings_keys_delete" AFTER DELETE ON "onboardings" REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION "onboarding_tokens_counted"();--> statement-breakpoint
CREATE TRIGGER "onboardings_keys_truncate" AFTER TRUNCATE ON "onboardings" FOR EACH STATEMENT EXECUTE FUNCTION "config_counts_emptied"();--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_keys_insert", ENABLE ALWAYS TRIGGER "tenant_configs_keys_update",
	ENABLE ALWAYS TRIGGER "tenant_configs_keys_delete";--> statement-breakpoint
ALTER TABLE "onboardings" ENABLE ALWAYS TRIGGER "onboardings_keys_insert", ENABLE ALWAYS TRIGGER "onboardings_keys_update",
	ENABLE ALWAYS TRIGGER "onboardings_keys_delete", ENABLE ALWAYS TRIGGER "onboardings_keys_truncate";
