DROP TRIGGER "tenant_configs_keys_insert" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_keys_update" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_keys_delete" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "onboardings_keys_insert" ON "onboardings";
--> statement-breakpoint
DROP TRIGGER "onboardings_keys_update" ON "onboardings";
--> statement-breakpoint
DROP TRIGGER "onboardings_keys_delete" ON "onboardings";
--> statement-breakpoint
DROP TRIGGER "onboardings_keys_truncate" ON "onboardings";
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
	WHERE source = TG_TABLE_NAME GROUP BY source, name, at HAVING sum(count) <> 0;
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
		UNION ALL SELECT source, name, at, -count FROM config_counts
		UNION ALL SELECT source, name, at, -count FROM config_count_changes
	) AS counted GROUP BY source, name, at HAVING sum(count) <> 0;
	GET DIAGNOSTICS wrong = ROW_COUNT;
	PERFORM set_config('tenant_config.writes_counts', 'off', true);
	RETURN wrong;
END
$$;
--> statement-breakpoint
DROP FUNCTION "secrets_counted"(), "onboarding_tokens_counted"(), "sealing_keys"(text[]);
--> statement-breakpoint
DELETE FROM "config_counts" WHERE "source" ^@ 'keys of ';
--> statement-breakpoint
DELETE FROM "config_count_changes" WHERE "source" ^@ 'keys of ';
