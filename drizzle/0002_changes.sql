CREATE FUNCTION "tenant_configs_changed"() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	how_many integer;
	changes text;
BEGIN
	IF TG_OP <> 'TRUNCATE' THEN
		SELECT count(*) INTO how_many FROM (SELECT FROM changed LIMIT 33) AS few;
		IF how_many = 0 THEN
			RETURN NULL;
		ELSIF how_many > 32 THEN
			changes := NULL;
		ELSIF TG_OP = 'UPDATE' THEN
			SELECT json_agg(json_build_array(tenant_id, phone_number_id, waba_id)) INTO changes FROM (
				SELECT tenant_id, phone_number_id, waba_id FROM changed UNION SELECT tenant_id, phone_number_id, waba_id FROM former
			) AS both_states;
		ELSE
			SELECT json_agg(json_build_array(tenant_id, phone_number_id, waba_id)) INTO changes FROM changed;
		END IF;
	END IF;
	-- An empty payload says that any row may have changed. A longer one than 7999 bytes PostgreSQL refuses, and the write with it.
	PERFORM pg_notify('tenant_configs', CASE WHEN octet_length(changes) < 8000 THEN changes ELSE '' END);
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE TRIGGER "tenant_configs_inserted" AFTER INSERT ON "tenant_configs" REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_updated" AFTER UPDATE ON "tenant_configs" REFERENCING OLD TABLE AS former NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_removed" AFTER DELETE ON "tenant_configs" REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_emptied" AFTER TRUNCATE ON "tenant_configs" FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_changed"();--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_inserted";--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_updated";--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_removed";--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_emptied";
