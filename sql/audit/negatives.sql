-- name: audit/negatives
-- Examples of another stratum than activating in which the lake holds an activation of the latent,
-- or that show one. Must return no row.
-- param: capture       VARCHAR
-- param: hookpoint     VARCHAR
-- param: bucket        INTEGER
-- param: sample        VARCHAR
-- param: window_tokens BIGINT
-- column: latent    INTEGER
-- column: example   INTEGER
-- column: start     BIGINT
-- column: n_in_lake BIGINT
-- grain: latent, example
WITH drawn AS (
    SELECT latent, example, start, "values", peak, peak_offset, quantile
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
        AND stratum <> 'activating'
),
reached AS (
    SELECT
        latent,
        example,
        start,
        len("values") AS length,
        unnest(range(
            start // $window_tokens, (start + len("values") - 1) // $window_tokens + 1
        )) AS bin
    FROM drawn
),
met AS (
    SELECT r.latent, r.example, count(*) AS n_in_lake
    FROM activations AS a
    INNER JOIN reached AS r
        ON a.latent = r.latent
        AND a.token // $window_tokens = r.bin
        AND a.token >= r.start
        AND a.token < r.start + r.length
    WHERE a.capture = $capture AND a.hookpoint = $hookpoint AND a.bucket = $bucket
    GROUP BY r.latent, r.example
)
SELECT d.latent, d.example, d.start, coalesce(m.n_in_lake, 0) AS n_in_lake
FROM drawn AS d
LEFT JOIN met AS m ON d.latent = m.latent AND d.example = m.example
WHERE m.n_in_lake IS NOT NULL
    OR list_max(d."values") <> 0
    OR list_min(d."values") <> 0
    OR d.peak <> 0
    OR d.peak_offset IS NOT NULL
    OR d.quantile IS NOT NULL
ORDER BY d.latent, d.example
