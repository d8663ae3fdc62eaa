-- outside a transaction
-- No statement blocks reads or writes of a table, as in 0004.
SELECT "config_counts_recount"();
