-- name: audit/values
-- Examples that show another value at some token than the lake has, zero where it has none, that
-- leave out values, or whose peak is not the value at its offset. So a negative that shows silence
-- is silent in the lake. Must return no row.
-- param: capture       VARCHAR
-- param: hookpoint     VARCHAR
-- param: bucket        INTEGER
-- param: sample        VARCHAR
-- param: window_tokens BIGINT
-- column: latent  INTEGER
-- column: example INTEGER
-- column: problem VARCHAR
-- column: n       BIGINT   tokens
-- grain: latent, example, problem
WITH mine AS (
    SELECT latent, example, start, stratum, tokens, "values", peak, peak_offset
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
),
elements AS (
    SELECT latent, example, unnest("values") AS shown, start + generate_subscripts("values", 1) - 1
        AS token
    FROM mine
),
shown AS (
    SELECT latent, example, token, shown FROM elements WHERE shown <> 0
),
reached AS (
    SELECT
        latent,
        example,
        start,
        start + len("values") AS stop,
        unnest(range(
            start // $window_tokens, (start + len("values") - 1) // $window_tokens + 1
        )) AS bin
    FROM mine
),
held AS (
    SELECT r.latent, r.example, a.token, a."value"
    FROM activations AS a
    INNER JOIN reached AS r
        ON a.latent = r.latent
        AND a.token // $window_tokens = r.bin
        AND a.token >= r.start
        AND a.token < r.stop
    WHERE a.capture = $capture AND a.hookpoint = $hookpoint AND a.bucket = $bucket
),
problems AS (
    SELECT
        coalesce(h.latent, s.latent) AS latent,
        coalesce(h.example, s.example) AS example,
        'shows other values than the lake has' AS problem,
        count(*) AS n
    FROM held AS h
    FULL JOIN shown AS s
        ON h.latent = s.latent AND h.example = s.example AND h.token = s.token
    WHERE h."value" IS DISTINCT FROM s.shown
    GROUP BY ALL
    UNION ALL
    SELECT latent, example, 'has not one value a token', 1
    FROM mine
    WHERE len("values") IS DISTINCT FROM len(tokens)
    UNION ALL
    SELECT latent, example, 'has a peak that is not the value at its offset', 1
    FROM mine
    WHERE stratum = 'activating'
        AND ("values"[peak_offset + 1] IS DISTINCT FROM peak OR peak = 0)
)
SELECT latent, example, problem, n
FROM problems
ORDER BY latent, example, problem
