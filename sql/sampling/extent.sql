-- name: sampling/extent
-- How many activations a unit has.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- column: n_rows BIGINT
SELECT count(*) AS n_rows
FROM activations
WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket
