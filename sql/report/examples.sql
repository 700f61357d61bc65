-- name: report/examples
-- At most $per_section examples of each role, stratum and quantile of some latents, the first
-- ones drawn; within a section the strongest first. Latent i of the list is number $latents[i]
-- of hookpoint $hookpoints[i], in bucket $buckets[i], drawn with the settings $samples[i].
-- param: capture     VARCHAR
-- param: hookpoints  VARCHAR[]
-- param: buckets     INTEGER[]
-- param: latents     INTEGER[]
-- param: samples     VARCHAR[]
-- param: per_section BIGINT
-- column: hookpoint VARCHAR
-- column: latent    INTEGER
-- column: example   INTEGER
-- column: role      VARCHAR
-- column: stratum   VARCHAR
-- column: quantile  INTEGER
-- column: tokens    INTEGER[]
-- column: values    FLOAT[]
-- column: peak      FLOAT
-- column: n_drawn   BIGINT   examples of the section, shown or not
-- grain: hookpoint, latent, example
WITH wanted AS (
    SELECT
        unnest($hookpoints) AS hookpoint, unnest($latents) AS latent, unnest($samples) AS sample
),
numbered AS (
    SELECT
        e.hookpoint, e.latent, e.example, e.role, e.stratum, e.quantile, e.tokens, e."values",
        e.peak,
        row_number() OVER (
            PARTITION BY e.hookpoint, e.latent, e.role, e.stratum, e.quantile
            ORDER BY e.example
        ) AS place,
        count(*) OVER (
            PARTITION BY e.hookpoint, e.latent, e.role, e.stratum, e.quantile
        ) AS n_drawn
    FROM examples AS e
    JOIN wanted AS w USING (hookpoint, latent, sample)
    WHERE e.capture = $capture
        AND list_contains($hookpoints, e.hookpoint)
        AND list_contains($buckets, e.bucket)
)
SELECT
    hookpoint, latent, example, role, stratum, quantile, tokens, "values", peak, n_drawn
FROM numbered
WHERE place <= $per_section
ORDER BY
    hookpoint, latent, role, stratum, quantile NULLS LAST, peak DESC NULLS LAST, example
