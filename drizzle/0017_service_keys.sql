CREATE TABLE "service_keys" (
	"id" varchar(20) PRIMARY KEY NOT NULL,
	"name" varchar(100) NOT NULL,
	"hash" varchar(43) NOT NULL,
	"scopes" text[] NOT NULL,
	"tenants" text[],
	"expires_at" timestamp with time zone,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	"created_by" varchar(255),
	"last_used_at" timestamp with time zone
);
