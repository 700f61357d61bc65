-- name: audit/values
-- Activating examples whose values are not the activations in the lake, at every token, or whose
-- peak is not the activation at its offset. Must return no row.
-- param: capture       VARCHAR
-- param: hookpoint     VARCHAR
-- param: bucket        INTEGER
-- param: sample        VARCHAR
-- param: window_tokens BIGINT
-- column: latent  INTEGER
-- column: example INTEGER
-- column: start   BIGINT
-- column: n_in_lake  BIGINT   activations of the latent in the window
-- column: n_equal    BIGINT   of them those that the example shows as they are
-- column: n_in_row   BIGINT   tokens that the example shows as active
-- grain: latent, example
WITH drawn AS (
    SELECT latent, example, start, "values", peak, peak_offset
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
        AND stratum = 'activating'
),
reached AS (
    SELECT
        latent,
        example,
        start,
        "values",
        unnest(range(
            start // $window_tokens, (start + len("values") - 1) // $window_tokens + 1
        )) AS bin
    FROM drawn
),
met AS (
    SELECT
        r.latent,
        r.example,
        count(*) AS n_in_lake,
        count(*) FILTER (WHERE r."values"[a.token - r.start + 1] = a.value) AS n_equal
    FROM activations AS a
    INNER JOIN reached AS r
        ON a.latent = r.latent
        AND a.token // $window_tokens = r.bin
        AND a.token >= r.start
        AND a.token < r.start + len(r."values")
    WHERE a.capture = $capture AND a.hookpoint = $hookpoint AND a.bucket = $bucket
    GROUP BY r.latent, r.example
),
compared AS (
    SELECT
        d.latent,
        d.example,
        d.start,
        d.peak,
        d."values"[d.peak_offset + 1] AS at_peak,
        coalesce(m.n_in_lake, 0) AS n_in_lake,
        coalesce(m.n_equal, 0) AS n_equal,
        len(list_filter(d."values", lambda v: v <> 0)) AS n_in_row
    FROM drawn AS d
    LEFT JOIN met AS m ON d.latent = m.latent AND d.example = m.example
)
SELECT latent, example, start, n_in_lake, n_equal, n_in_row
FROM compared
WHERE n_in_lake = 0
    OR n_equal <> n_in_lake
    OR n_in_row <> n_in_lake
    OR at_peak IS DISTINCT FROM peak
    OR peak = 0
ORDER BY latent, example
