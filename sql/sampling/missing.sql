-- name: sampling/missing
-- Of some latents those with enough windows that have no examples of this sample.
-- param: capture     VARCHAR
-- param: hookpoint   VARCHAR
-- param: bucket      INTEGER
-- param: sample      VARCHAR
-- param: latents     INTEGER[]
-- param: min_windows BIGINT
-- column: latent INTEGER
-- grain: latent
WITH wanted AS (
    SELECT latent
    FROM latents
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND n_windows >= $min_windows
        AND latent IN (SELECT unnest($latents::INTEGER[]))
),
held AS (
    SELECT latent
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
)
SELECT w.latent
FROM wanted AS w
ANTI JOIN held AS h ON w.latent = h.latent
ORDER BY w.latent
