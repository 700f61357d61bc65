-- name: audit/spans
-- Examples that are not the corpus's own tokens, leave their document, are longer or shorter than
-- they should be, or have another role than their document. Must return no row.
-- param: capture        VARCHAR
-- param: hookpoint      VARCHAR
-- param: bucket         INTEGER
-- param: sample         VARCHAR
-- param: window_tokens  BIGINT
-- param: placement      VARCHAR
-- column: latent  INTEGER
-- column: example INTEGER
-- column: start   BIGINT
-- column: problem VARCHAR
-- grain: latent, example
WITH found AS (
    SELECT
        e.latent,
        e.example,
        e.role,
        e.document,
        e.start,
        len(e.tokens) AS length,
        l.tile_of[e.start + 1] AS number,
        list_transform(range(e.start, e.start + len(e.tokens)), lambda i: l.text[i + 1])
            IS DISTINCT FROM e.tokens AS is_other_text
    FROM examples AS e
    CROSS JOIN lookup AS l
    WHERE e.capture = $capture
        AND e.hookpoint = $hookpoint
        AND e.bucket = $bucket
        AND e.sample = $sample
),
judged AS (
    SELECT
        f.latent,
        f.example,
        f.start,
        CASE
            WHEN t.document IS NULL THEN 'begins at a token of no captured document'
            WHEN t.document IS DISTINCT FROM f.document THEN 'lies in another document'
            WHEN coalesce(f.length, 0) = 0 THEN 'has no tokens'
            WHEN f.start + f.length > t.stop THEN 'leaves the document'
            WHEN f.length > $window_tokens THEN 'is longer than a window'
            WHEN $placement = 'aligned' AND (f.start <> t.tile OR f.length <> t.length)
                THEN 'is no tile'
            WHEN $placement <> 'aligned' AND f.length < least($window_tokens, t.stop - t.first)
                THEN 'is shorter than its document allows'
            WHEN t.role IS DISTINCT FROM f.role THEN 'has another role than its document'
            WHEN f.is_other_text THEN 'holds other tokens than the corpus'
        END AS problem
    FROM found AS f
    LEFT JOIN tiles AS t ON f.number = t.number
)
SELECT latent, example, start, problem
FROM judged
WHERE problem IS NOT NULL
ORDER BY latent, example
