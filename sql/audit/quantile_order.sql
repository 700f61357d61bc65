-- name: audit/quantile_order
-- Quantiles that hold a larger peak than a stronger one does. Must return no row.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: sample    VARCHAR
-- column: latent   INTEGER
-- column: quantile INTEGER
-- column: largest  FLOAT
-- column: smallest FLOAT   of the next stronger quantile that has examples
-- grain: latent, quantile
WITH extremes AS (
    SELECT latent, quantile, max(peak) AS largest, min(peak) AS smallest
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
        AND stratum = 'activating'
    GROUP BY latent, quantile
),
beside AS (
    SELECT
        latent,
        quantile,
        largest,
        lag(smallest) OVER (PARTITION BY latent ORDER BY quantile) AS smallest
    FROM extremes
)
SELECT latent, quantile, largest, smallest
FROM beside
WHERE quantile IS NULL OR largest > smallest
ORDER BY latent, quantile
