-- name: audit/negatives
-- Examples of another stratum than activating that show an activation, or have what only an
-- activating one has. With audit/values, which compares every value shown with the lake, the
-- latent is silent in them. Must return no row.
-- param: capture       VARCHAR
-- param: hookpoint     VARCHAR
-- param: bucket        INTEGER
-- param: sample        VARCHAR
-- column: latent  INTEGER
-- column: example INTEGER
-- column: start   BIGINT
-- column: problem VARCHAR
-- grain: latent, example
WITH drawn AS (
    SELECT
        latent,
        example,
        start,
        CASE
            WHEN list_max("values") <> 0 OR list_min("values") <> 0 THEN 'shows an activation'
            WHEN peak IS DISTINCT FROM 0 OR peak_offset IS NOT NULL OR quantile IS NOT NULL
                THEN 'has a peak or a quantile'
            WHEN stratum = 'neighbour' AND neighbour IS NULL THEN 'names no neighbour'
        END AS problem
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
        AND stratum <> 'activating'
)
SELECT latent, example, start, problem
FROM drawn
WHERE problem IS NOT NULL
ORDER BY latent, example
