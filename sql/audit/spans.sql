-- name: audit/spans
-- Examples that are not the corpus's own tokens, leave their document, or have another role than
-- their document. Must return no row.
-- param: capture        VARCHAR
-- param: hookpoint      VARCHAR
-- param: bucket         INTEGER
-- param: sample         VARCHAR
-- param: corpus         VARCHAR
-- param: context_tokens BIGINT
-- param: window_tokens  BIGINT
-- column: latent  INTEGER
-- column: example INTEGER
-- column: start   BIGINT
-- column: problem VARCHAR
-- grain: latent, example
WITH drawn AS (
    SELECT latent, example, role, document, start, tokens, len(tokens) AS length
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
),
placed AS (
    SELECT d.latent, d.example, t.document, t.role, t.first, t.stop
    FROM drawn AS d
    INNER JOIN bins AS b
        ON d.start // $window_tokens = b.bin AND d.start >= b.tile AND d.start < b.stop
    INNER JOIN tiles AS t ON b.number = t.number
),
judged AS (
    SELECT
        d.latent,
        d.example,
        d.start,
        CASE
            WHEN p.document IS NULL THEN 'begins at a token of no captured document'
            WHEN p.document <> d.document THEN 'lies in another document'
            WHEN d.length = 0 OR d.start + d.length > p.stop THEN 'leaves the document'
            WHEN d.length > $window_tokens THEN 'is longer than a window'
            WHEN p.role <> d.role THEN 'has another role than its document'
            WHEN s.tokens[d.start % $context_tokens + 1 : d.start % $context_tokens + d.length]
                IS DISTINCT FROM d.tokens THEN 'holds other tokens than the corpus'
        END AS problem
    FROM drawn AS d
    LEFT JOIN placed AS p ON d.latent = p.latent AND d.example = p.example
    LEFT JOIN sequences AS s
        ON s.corpus = $corpus AND s.sequence = d.start // $context_tokens
)
SELECT latent, example, start, problem
FROM judged
WHERE problem IS NOT NULL
ORDER BY latent, example
