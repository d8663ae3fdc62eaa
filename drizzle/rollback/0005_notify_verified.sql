DROP TRIGGER "token_watch_changed" ON "token_watch";
--> statement-breakpoint
DROP FUNCTION "token_watch_changed"();
--> statement-breakpoint
DROP TRIGGER "verified_identities_inserted" ON "verified_identities";
--> statement-breakpoint
DROP TRIGGER "verified_identities_updated" ON "verified_identities";
--> statement-breakpoint
DROP TRIGGER "verified_identities_removed" ON "verified_identities";
--> statement-breakpoint
DROP TRIGGER "verified_identities_emptied" ON "verified_identities";
