-- name: report/cookbook/densest_latents
-- Which latents fire most often? The twenty of the largest density, the share of tokens at
-- which a latent is active.
-- column: capture      VARCHAR
-- column: hookpoint    VARCHAR
-- column: latent       INTEGER
-- column: density      DOUBLE
-- column: mean         FLOAT   mean activation where active
-- column: single_token DOUBLE   share of activations at its commonest token
-- column: status       VARCHAR
-- grain: capture, hookpoint, latent
SELECT capture, hookpoint, latent, density, "mean", single_token, status
FROM latents
WHERE density > 0
ORDER BY density DESC, capture, hookpoint, latent
LIMIT 20
