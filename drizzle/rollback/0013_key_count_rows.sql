-- outside a transaction
-- The triggers count on until 0012 is undone.
SELECT 1;
