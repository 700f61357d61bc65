-- name: audit/duplicates
-- Windows shown twice for one latent. Must return no row.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: sample    VARCHAR
-- column: latent INTEGER
-- column: start  BIGINT
-- column: n      BIGINT
-- grain: latent, start
SELECT latent, start, count(*) AS n
FROM examples
WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
GROUP BY latent, start
HAVING count(*) > 1
ORDER BY latent, start
