-- name: stats/outlook
-- How many latents of each hookpoint will have enough windows when more tokens are captured.
-- Windows seen are a Poisson count; low and high take the ends of its interval of about 95 %, so
-- that a latent that was never seen counts as one that may still come.
-- param: capture VARCHAR
-- param: ratio DOUBLE        tokens to come for each token seen
-- param: min_windows INTEGER
-- column: hookpoint VARCHAR
-- column: n_latents BIGINT
-- column: n_seen BIGINT      latents with an activation
-- column: n_low BIGINT
-- column: n_expected BIGINT
-- column: n_high BIGINT
-- grain: hookpoint
SELECT
    hookpoint,
    count(*) AS n_latents,
    count(*) FILTER (n_windows > 0) AS n_seen,
    count(*) FILTER ((n_windows - 2 * sqrt(n_windows)) * $ratio >= $min_windows) AS n_low,
    count(*) FILTER (n_windows * $ratio >= $min_windows) AS n_expected,
    count(*) FILTER ((n_windows + 2 * sqrt(n_windows) + 3) * $ratio >= $min_windows) AS n_high
FROM latents
WHERE capture = $capture
GROUP BY hookpoint
ORDER BY hookpoint
