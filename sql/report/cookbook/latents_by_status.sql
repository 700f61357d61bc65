-- name: report/cookbook/latents_by_status
-- How many latents of each hookpoint are ok, rare, dense or dead? With their share of all of them.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: status    VARCHAR
-- column: n         BIGINT
-- column: share     DOUBLE   of the hookpoint's latents
-- grain: capture, hookpoint, status
WITH counted AS (
    SELECT capture, hookpoint, status, count(*) AS n
    FROM latents
    GROUP BY capture, hookpoint, status
)
SELECT
    capture, hookpoint, status, n,
    CAST(n AS DOUBLE) / sum(n) OVER (PARTITION BY capture, hookpoint) AS share
FROM counted
ORDER BY capture, hookpoint, n DESC, status
