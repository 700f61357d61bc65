-- name: report/status_counts
-- Latents of each hookpoint by status; those without a row in `latents` are `not sampled`.
-- param: capture VARCHAR
-- column: hookpoint VARCHAR
-- column: status    VARCHAR
-- column: n         BIGINT
-- grain: hookpoint, status
WITH counted AS (
    SELECT hookpoint, status, count(*) AS n
    FROM latents
    WHERE capture = $capture
    GROUP BY hookpoint, status
),
known AS (
    SELECT hookpoint, sum(n)::BIGINT AS n FROM counted GROUP BY hookpoint
),
missing AS (
    SELECT h.hookpoint, 'not sampled' AS status, h.n_latents - coalesce(k.n, 0) AS n
    FROM hookpoints AS h
    LEFT JOIN known AS k USING (hookpoint)
    WHERE h.capture = $capture AND h.n_latents > coalesce(k.n, 0)
)
SELECT hookpoint, status, n FROM counted
UNION ALL
SELECT hookpoint, status, n FROM missing
ORDER BY hookpoint, n DESC, status
