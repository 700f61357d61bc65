-- name: stats/windows
-- The number of windows of each latent of a hookpoint.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- column: latent    INTEGER
-- column: n_windows BIGINT
-- grain: latent
SELECT latent, n_windows
FROM latents
WHERE capture = $capture AND hookpoint = $hookpoint
ORDER BY latent
