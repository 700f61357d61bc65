-- name: report/cookbook/spiky_latents
-- Which latents have a few activations far above the rest? By the ratio of the largest
-- activation to the mean.
-- column: capture       VARCHAR
-- column: hookpoint     VARCHAR
-- column: latent        INTEGER
-- column: ratio         DOUBLE   largest over mean activation
-- column: max           FLOAT
-- column: mean          FLOAT
-- column: n_activations BIGINT
-- grain: capture, hookpoint, latent
SELECT
    capture, hookpoint, latent,
    CAST("max" AS DOUBLE) / CAST("mean" AS DOUBLE) AS ratio, "max", "mean", n_activations
FROM latents
WHERE n_activations >= 20
ORDER BY ratio DESC, capture, hookpoint, latent
LIMIT 20
