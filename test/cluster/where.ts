/** Where the tests keep their PostgreSQL. */
export const CLUSTER_DIR = '.data-test'

/** In that directory: the URL of the PostgreSQL that serves this run. */
export const URL_FILE = 'url'

/** A migrated, empty database that every test's own is copied from. */
export const TEMPLATE = 'wtc_test_template'

/** Keeps every token of a database from being due within the hour, so that the monitor leaves it alone. */
export const QUIET = `
  create function quiet() returns trigger language plpgsql as $$ begin
    new.next_check_at = greatest(new.next_check_at, now() + interval '1 hour');
    return new;
  end $$;
  create trigger quiet before insert or update on token_watch for each row execute function quiet()`

/** Undoes it. */
export const WATCHED = 'drop trigger quiet on token_watch; drop function quiet'
