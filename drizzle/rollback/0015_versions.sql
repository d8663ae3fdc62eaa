DROP TRIGGER "tenant_config_versions_update" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_config_versions_delete" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_config_versions_truncate" ON "tenant_configs";
--> statement-breakpoint
DROP FUNCTION "tenant_config_versions_update"();
--> statement-breakpoint
DROP FUNCTION "tenant_config_versions_delete"();
--> statement-breakpoint
DROP TABLE "tenant_config_versions", "version_policy";
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
DELETE FROM "config_counts" WHERE "source" = 'keys of tenant_config_versions';
--> statement-breakpoint
DELETE FROM "config_count_changes" WHERE "source" = 'keys of tenant_config_versions';
