/** The directory of the tests' PostgreSQL. */
export const CLUSTER_DIR = '.data-test'

/** The file in that directory with the URL of the PostgreSQL. */
export const URL_FILE = 'url'

/** A migrated, empty database; the database of each test is a copy of it. */
export const TEMPLATE = 'wtc_test_template'

/** Keeps every token of a database from being due within the hour, so that the scheduler does not check it. */
export const QUIET = `
  create function quiet() returns trigger language plpgsql as $$ begin
    new.next_check_at = greatest(new.next_check_at, now() + interval '1 hour');
    return new;
  end $$;
  create trigger quiet before insert or update on token_watch for each row execute function quiet()`

/** Drops the trigger again. */
export const WATCHED = 'drop trigger quiet on token_watch; drop function quiet'
