-- name: strata/active
-- The tiles in which the latents that have neighbours fire.
-- column: latent INTEGER
-- column: number INTEGER
-- grain: latent, number
SELECT latent, number
FROM windows
WHERE latent IN (SELECT latent FROM near)
ORDER BY latent
