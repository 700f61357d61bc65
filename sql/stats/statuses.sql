-- name: stats/statuses
-- How many latents of a range have each status.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: first     INTEGER
-- param: stop      INTEGER
-- column: status VARCHAR
-- column: n      BIGINT
-- grain: status
SELECT status, count(*) AS n
FROM latents
WHERE capture = $capture AND hookpoint = $hookpoint AND latent >= $first AND latent < $stop
GROUP BY status
ORDER BY status
