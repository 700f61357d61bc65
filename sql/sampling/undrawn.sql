-- name: sampling/undrawn
-- Of some latents of a unit those without examples of a sample, and whether they have enough
-- windows to be due some.
-- param: capture     VARCHAR
-- param: hookpoint   VARCHAR
-- param: bucket      INTEGER
-- param: sample      VARCHAR
-- param: latents     INTEGER[]
-- param: min_windows BIGINT
-- column: latent INTEGER
-- column: is_due BOOLEAN
-- grain: latent
WITH held AS (
    SELECT latent
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
),
counted AS (
    SELECT latent, n_windows >= $min_windows AS is_due
    FROM latents
    WHERE capture = $capture AND hookpoint = $hookpoint
)
SELECT w.latent, coalesce(c.is_due, false) AS is_due
FROM (SELECT DISTINCT unnest($latents::INTEGER[]) AS latent) AS w
LEFT JOIN counted AS c ON w.latent = c.latent
ANTI JOIN held AS h ON w.latent = h.latent
ORDER BY w.latent
