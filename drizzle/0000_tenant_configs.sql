CREATE TABLE "tenant_configs" (
	"id" serial PRIMARY KEY NOT NULL,
	"tenant_id" varchar(100) NOT NULL,
	"user_id" varchar(255),
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
	"is_active" boolean DEFAULT true NOT NULL,
	"onboarding_completed" boolean DEFAULT false NOT NULL,
	"onboarded_at" timestamp with time zone,
	"last_verified_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"updated_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "tenant_configs_tenant_id_key" UNIQUE("tenant_id")
);
--> statement-breakpoint
CREATE TABLE "vault_keys" (
	"key_id" varchar(32) PRIMARY KEY NOT NULL,
	"check_value" text NOT NULL,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX "tenant_configs_phone_number_id_key" ON "tenant_configs" USING btree ("phone_number_id") WHERE "tenant_configs"."phone_number_id" is not null;--> statement-breakpoint
CREATE INDEX "tenant_configs_waba_id_idx" ON "tenant_configs" USING btree ("waba_id");--> statement-breakpoint
CREATE INDEX "tenant_configs_list_idx" ON "tenant_configs" USING btree ("tenant_id" collate "C");--> statement-breakpoint
CREATE INDEX "tenant_configs_state_idx" ON "tenant_configs" USING btree ("is_active","onboarding_completed");--> statement-breakpoint
CREATE INDEX "tenant_configs_token_idx" ON "tenant_configs" USING btree ("token_expires_at") WHERE "tenant_configs"."access_token" is not null;--> statement-breakpoint
CREATE FUNCTION "tenant_configs_touch"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	NEW.updated_at = now();
	RETURN NEW;
END
$$;
--> statement-breakpoint
CREATE TRIGGER "tenant_configs_touch" BEFORE UPDATE ON "tenant_configs" FOR EACH ROW EXECUTE FUNCTION "tenant_configs_touch"();
