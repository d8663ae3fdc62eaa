-- Locks token_watch in ACCESS EXCLUSIVE mode, tenant_configs and phone_numbers in SHARE ROW EXCLUSIVE mode until the commit, some
-- milliseconds later. The new columns are null, so that no row is rewritten. 0010 counts the rows that are there.
CREATE TABLE "config_count_changes" (
	"source" varchar(32) NOT NULL,
	"name" varchar(32) NOT NULL,
	"at" timestamp with time zone DEFAULT '-infinity' NOT NULL,
	"count" bigint NOT NULL
);
--> statement-breakpoint
CREATE TABLE "config_counts" (
	"source" varchar(32) NOT NULL,
	"name" varchar(32) NOT NULL,
	"at" timestamp with time zone DEFAULT '-infinity' NOT NULL,
	"count" bigint NOT NULL,
	CONSTRAINT "config_counts_pkey" PRIMARY KEY("source","name","at")
);
--> statement-breakpoint
ALTER TABLE "token_watch" ADD COLUMN "tenant_is_active" boolean;--> statement-breakpoint
ALTER TABLE "token_watch" ADD COLUMN "tenant_is_onboarded" boolean;--> statement-breakpoint
-- Else a publication of all tables would refuse each DELETE: there is no primary key.
ALTER TABLE "config_count_changes" REPLICA IDENTITY FULL;--> statement-breakpoint
-- The counts that a row of tenant_configs is part of. It has no search_path of its own: PostgreSQL inlines it so.
CREATE FUNCTION "tenant_config_counts"("is_active" boolean, "onboarding_completed" boolean, "has_number" boolean, "has_token" boolean,
	"token_expires_at" timestamp with time zone) RETURNS TABLE ("name" text, "at" timestamp with time zone) LANGUAGE sql STABLE AS $$
	SELECT counter.name, counter.at FROM (VALUES
		('total', timestamptz '-infinity', true),
		('active', '-infinity', is_active),
		('onboarded', '-infinity', onboarding_completed),
		('no_number', '-infinity', NOT has_number),
		('no_expiry', '-infinity', has_token AND token_expires_at IS NULL),
		('expires_day', date_trunc('day', token_expires_at, 'UTC'), has_token AND token_expires_at IS NOT NULL),
		('expires_hour', date_trunc('hour', token_expires_at, 'UTC'), has_token AND token_expires_at IS NOT NULL),
		('expires_minute', date_trunc('minute', token_expires_at, 'UTC'), has_token AND token_expires_at IS NOT NULL)
	) AS counter (name, at, applies) WHERE applies
$$;
--> statement-breakpoint
-- FROM CURRENT, SECURITY DEFINER and the rights: as in 0003. A statement appends one row for each count that it changes.
CREATE FUNCTION "tenant_configs_counted"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO config_count_changes (source, name, at, count)
		SELECT TG_TABLE_NAME, name, at, count(*)
		FROM added, tenant_config_counts(is_active, onboarding_completed, phone_number_id IS NOT NULL, access_token IS NOT NULL, token_expires_at)
		GROUP BY name, at;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO config_count_changes (source, name, at, count)
		SELECT TG_TABLE_NAME, name, at, -count(*)
		FROM removed, tenant_config_counts(is_active, onboarding_completed, phone_number_id IS NOT NULL, access_token IS NOT NULL, token_expires_at)
		GROUP BY name, at;
	-- Most updates change nothing of this. The ids are for a statement that exchanges the flags of two tenants.
	ELSIF EXISTS (
		SELECT tenant_id, is_active, onboarding_completed, phone_number_id IS NULL, access_token IS NULL, token_expires_at FROM added
		EXCEPT ALL
		SELECT tenant_id, is_active, onboarding_completed, phone_number_id IS NULL, access_token IS NULL, token_expires_at FROM removed
	) THEN
		INSERT INTO config_count_changes (source, name, at, count)
		SELECT TG_TABLE_NAME, name, at, sum(count) FROM (
			SELECT name, at, 1 AS count
			FROM added, tenant_config_counts(is_active, onboarding_completed, phone_number_id IS NOT NULL, access_token IS NOT NULL, token_expires_at)
			UNION ALL SELECT name, at, -1
			FROM removed, tenant_config_counts(is_active, onboarding_completed, phone_number_id IS NOT NULL, access_token IS NOT NULL, token_expires_at)
		) AS both_states GROUP BY name, at HAVING sum(count) <> 0;
		UPDATE token_watch SET tenant_is_active = is_active, tenant_is_onboarded = onboarding_completed FROM added
		WHERE token_watch.tenant_id = added.tenant_id AND (tenant_is_active, tenant_is_onboarded) IS DISTINCT FROM (is_active, onboarding_completed);
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "token_watch_counted"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO config_count_changes (source, name, count) SELECT TG_TABLE_NAME, status, count(*) FROM added GROUP BY status;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO config_count_changes (source, name, count) SELECT TG_TABLE_NAME, status, -count(*) FROM removed GROUP BY status;
	ELSE
		INSERT INTO config_count_changes (source, name, count)
		SELECT TG_TABLE_NAME, status, sum(count) FROM (SELECT status, 1 AS count FROM added UNION ALL SELECT status, -1 FROM removed) AS both_states
		GROUP BY status HAVING sum(count) <> 0;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "phone_numbers_counted"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO config_count_changes (source, name, count) SELECT TG_TABLE_NAME, number_status, count(*) FROM added GROUP BY number_status;
	ELSIF TG_OP = 'DELETE' THEN
		INSERT INTO config_count_changes (source, name, count) SELECT TG_TABLE_NAME, number_status, -count(*) FROM removed GROUP BY number_status;
	ELSE
		INSERT INTO config_count_changes (source, name, count)
		SELECT TG_TABLE_NAME, number_status, sum(count)
		FROM (SELECT number_status, 1 AS count FROM added UNION ALL SELECT number_status, -1 FROM removed) AS both_states
		GROUP BY number_status HAVING sum(count) <> 0;
	END IF;
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "config_counts_emptied"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
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
-- Corrects the counts, and returns how many were wrong. It needs no lock on a table: the rows that its snapshot shows, and
-- the changes of counts that it shows, are of the same transactions. A second one at once would correct the same twice.
CREATE FUNCTION "config_counts_recount"() RETURNS integer LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
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
-- Moves up to so many changes into config_counts, and returns how many; 0 while another process does so. Its one statement
-- leaves every sum as it is. A count of 0 is deleted: a tenant can name any number of expiry dates.
CREATE FUNCTION "config_counts_fold"("batch" integer) RETURNS integer LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
	folded integer;
BEGIN
	IF NOT pg_try_advisory_xact_lock(hashtext('whatsapp-tenant-config counts')) THEN
		RETURN 0;
	END IF;
	PERFORM set_config('tenant_config.writes_counts', 'on', true);
	WITH changes AS (
		DELETE FROM config_count_changes WHERE ctid = ANY (ARRAY(SELECT ctid FROM config_count_changes LIMIT batch)) RETURNING source, name, at, count
	), sums AS (
		SELECT source, name, at, sum(count) AS count FROM changes GROUP BY source, name, at HAVING sum(count) <> 0
	), ended AS (
		DELETE FROM config_counts USING sums
		WHERE (config_counts.source, config_counts.name, config_counts.at) = (sums.source, sums.name, sums.at) AND config_counts.count = -sums.count
		RETURNING config_counts.source, config_counts.name, config_counts.at
	), kept AS (
		INSERT INTO config_counts (source, name, at, count)
		SELECT * FROM sums WHERE (source, name, at) NOT IN (SELECT source, name, at FROM ended)
		ON CONFLICT (source, name, at) DO UPDATE SET count = config_counts.count + excluded.count
	)
	SELECT count(*) INTO folded FROM changes;
	PERFORM set_config('tenant_config.writes_counts', 'off', true);
	RETURN folded;
END
$$;
--> statement-breakpoint
-- A data-only restore with the triggers on would count each row twice: by the triggers, and by the counts of the dump.
CREATE FUNCTION "config_counts_guard"() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
	RETURN NULL;
END
$$;
--> statement-breakpoint
CREATE FUNCTION "token_watch_flags"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	-- The lock keeps the flags as they are until the commit: an update of them would not see the new row.
	SELECT is_active, onboarding_completed INTO NEW.tenant_is_active, NEW.tenant_is_onboarded FROM tenant_configs
	WHERE tenant_id = NEW.tenant_id FOR SHARE;
	RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "token_watch_insert"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO token_watch (tenant_id, next_check_at, is_deadline, tenant_is_active, tenant_is_onboarded)
	SELECT tenant_id, CASE WHEN is_active THEN now() ELSE '9999-12-31Z' END, coalesce(token_expires_at < now() + interval '14 days', false),
		is_active, onboarding_completed
	FROM fresh WHERE access_token IS NOT NULL
	ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, data_access_ends_at = NULL,
		next_check_at = excluded.next_check_at, is_deadline = excluded.is_deadline,
		tenant_is_active = excluded.tenant_is_active, tenant_is_onboarded = excluded.tenant_is_onboarded;
	RETURN NULL;
END
$$;
--> statement-breakpoint
REVOKE EXECUTE ON FUNCTION "tenant_configs_counted"(), "token_watch_counted"(), "phone_numbers_counted"(), "config_counts_emptied"(),
	"token_watch_flags"() FROM PUBLIC;--> statement-breakpoint
CREATE TRIGGER "tenant_configs_counted_insert" AFTER INSERT ON "tenant_configs" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_counted_update" AFTER UPDATE ON "tenant_configs" REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_counted_delete" AFTER DELETE ON "tenant_configs" REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION "tenant_configs_counted"();--> statement-breakpoint
CREATE TRIGGER "tenant_configs_counted_truncate" AFTER TRUNCATE ON "tenant_configs" FOR EACH STATEMENT EXECUTE FUNCTION "config_counts_emptied"();--> statement-breakpoint
CREATE TRIGGER "token_watch_counted_insert" AFTER INSERT ON "token_watch" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "token_watch_counted"();--> statement-breakpoint
CREATE TRIGGER "token_watch_counted_update" AFTER UPDATE ON "token_watch" REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "token_watch_counted"();--> statement-breakpoint
CREATE TRIGGER "token_watch_counted_delete" AFTER DELETE ON "token_watch" REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION "token_watch_counted"();--> statement-breakpoint
CREATE TRIGGER "token_watch_counted_truncate" AFTER TRUNCATE ON "token_watch" FOR EACH STATEMENT EXECUTE FUNCTION "config_counts_emptied"();--> statement-breakpoint
CREATE TRIGGER "token_watch_flags" BEFORE INSERT ON "token_watch" FOR EACH ROW
	WHEN (NEW.tenant_is_active IS NULL OR NEW.tenant_is_onboarded IS NULL) EXECUTE FUNCTION "token_watch_flags"();--> statement-breakpoint
CREATE TRIGGER "phone_numbers_counted_insert" AFTER INSERT ON "phone_numbers" REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "phone_numbers_counted"();--> statement-breakpoint
CREATE TRIGGER "phone_numbers_counted_update" AFTER UPDATE ON "phone_numbers" REFERENCING OLD TABLE AS removed NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION "phone_numbers_counted"();--> statement-breakpoint
CREATE TRIGGER "phone_numbers_counted_delete" AFTER DELETE ON "phone_numbers" REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION "phone_numbers_counted"();--> statement-breakpoint
CREATE TRIGGER "phone_numbers_counted_truncate" AFTER TRUNCATE ON "phone_numbers" FOR EACH STATEMENT EXECUTE FUNCTION "config_counts_emptied"();--> statement-breakpoint
CREATE TRIGGER "config_counts_guard" BEFORE INSERT ON "config_counts" FOR EACH ROW
	WHEN (pg_trigger_depth() = 0 AND current_setting('tenant_config.writes_counts', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION "config_counts_guard"();--> statement-breakpoint
CREATE TRIGGER "config_count_changes_guard" BEFORE INSERT ON "config_count_changes" FOR EACH ROW
	WHEN (pg_trigger_depth() = 0 AND current_setting('tenant_config.writes_counts', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION "config_counts_guard"();--> statement-breakpoint
ALTER TABLE "tenant_configs" ENABLE ALWAYS TRIGGER "tenant_configs_counted_insert", ENABLE ALWAYS TRIGGER "tenant_configs_counted_update",
	ENABLE ALWAYS TRIGGER "tenant_configs_counted_delete", ENABLE ALWAYS TRIGGER "tenant_configs_counted_truncate";--> statement-breakpoint
ALTER TABLE "token_watch" ENABLE ALWAYS TRIGGER "token_watch_counted_insert", ENABLE ALWAYS TRIGGER "token_watch_counted_update",
	ENABLE ALWAYS TRIGGER "token_watch_counted_delete", ENABLE ALWAYS TRIGGER "token_watch_counted_truncate",
	ENABLE ALWAYS TRIGGER "token_watch_flags";--> statement-breakpoint
ALTER TABLE "phone_numbers" ENABLE ALWAYS TRIGGER "phone_numbers_counted_insert", ENABLE ALWAYS TRIGGER "phone_numbers_counted_update",
	ENABLE ALWAYS TRIGGER "phone_numbers_counted_delete", ENABLE ALWAYS TRIGGER "phone_numbers_counted_truncate";--> statement-breakpoint
ALTER TABLE "config_counts" ENABLE ALWAYS TRIGGER "config_counts_guard";--> statement-breakpoint
ALTER TABLE "config_count_changes" ENABLE ALWAYS TRIGGER "config_count_changes_guard";
