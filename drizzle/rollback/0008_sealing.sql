-- A former version opens no v2.
DO $$
BEGIN
	IF EXISTS (SELECT FROM "tenant_configs" WHERE "access_token" ^@ 'v2.' OR "fb_app_secret" ^@ 'v2.' OR "verify_token" ^@ 'v2.' OR "refresh_token" ^@ 'v2.')
		OR EXISTS (SELECT FROM "onboardings" WHERE "access_token" ^@ 'v2.' OR "former" ->> 'access_token' ^@ 'v2.') THEN
		RAISE EXCEPTION 'Secrets are sealed in v2, which a former version cannot open. Run npm run keys:rotate -- --format v1, then try again.';
	END IF;
END
$$;
--> statement-breakpoint
ALTER TABLE "vault_keys" DROP COLUMN "format", DROP COLUMN "seals";
