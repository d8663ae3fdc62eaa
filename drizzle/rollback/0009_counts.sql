DROP TRIGGER "tenant_configs_counted_insert" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_counted_update" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_counted_delete" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "tenant_configs_counted_truncate" ON "tenant_configs";
--> statement-breakpoint
DROP TRIGGER "token_watch_counted_insert" ON "token_watch";
--> statement-breakpoint
DROP TRIGGER "token_watch_counted_update" ON "token_watch";
--> statement-breakpoint
DROP TRIGGER "token_watch_counted_delete" ON "token_watch";
--> statement-breakpoint
DROP TRIGGER "token_watch_counted_truncate" ON "token_watch";
--> statement-breakpoint
DROP TRIGGER "token_watch_flags" ON "token_watch";
--> statement-breakpoint
DROP TRIGGER "phone_numbers_counted_insert" ON "phone_numbers";
--> statement-breakpoint
DROP TRIGGER "phone_numbers_counted_update" ON "phone_numbers";
--> statement-breakpoint
DROP TRIGGER "phone_numbers_counted_delete" ON "phone_numbers";
--> statement-breakpoint
DROP TRIGGER "phone_numbers_counted_truncate" ON "phone_numbers";
--> statement-breakpoint
CREATE OR REPLACE FUNCTION "token_watch_insert"() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
	INSERT INTO token_watch (tenant_id, next_check_at, is_deadline)
	SELECT tenant_id, CASE WHEN is_active THEN now() ELSE '9999-12-31Z' END, coalesce(token_expires_at < now() + interval '14 days', false)
	FROM fresh WHERE access_token IS NOT NULL
	ON CONFLICT (tenant_id) DO UPDATE SET status = 'unverified', reason = NULL, checked_at = NULL, data_access_ends_at = NULL,
		next_check_at = excluded.next_check_at, is_deadline = excluded.is_deadline;
	RETURN NULL;
END
$$;
--> statement-breakpoint
DROP TABLE "config_counts", "config_count_changes";
--> statement-breakpoint
DROP FUNCTION "config_counts_fold"(integer), "config_counts_recount"(), "config_counts_guard"(), "config_counts_emptied"(),
	"tenant_configs_counted"(), "token_watch_counted"(), "phone_numbers_counted"(), "token_watch_flags"(),
	"tenant_config_counts"(boolean, boolean, boolean, boolean, timestamp with time zone);
--> statement-breakpoint
ALTER TABLE "token_watch" DROP COLUMN "tenant_is_active", DROP COLUMN "tenant_is_onboarded";
