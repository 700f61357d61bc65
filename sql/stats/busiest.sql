-- name: stats/busiest
-- The latents of a hookpoint with the most windows, those that fire nearly everywhere left out.
-- param: capture VARCHAR
-- param: hookpoint VARCHAR
-- param: min_windows INTEGER
-- param: n INTEGER
-- column: latent INTEGER
-- column: n_windows BIGINT
-- grain: latent
SELECT latent, n_windows
FROM latents
WHERE capture = $capture AND hookpoint = $hookpoint AND n_windows >= $min_windows
    AND status <> 'dense'
ORDER BY n_windows DESC, latent
LIMIT $n
