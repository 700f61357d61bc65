-- name: sampling/drawn
-- The drawn windows of one unit as rows of `examples`, all but their values, numbered within the
-- latent by role, stratum, quantile and draw.
-- param: corpus         VARCHAR
-- param: context_tokens BIGINT
-- column: latent      INTEGER
-- column: example     INTEGER
-- column: role        VARCHAR
-- column: stratum     VARCHAR
-- column: quantile    INTEGER
-- column: document    BIGINT
-- column: start       BIGINT
-- column: tokens      INTEGER[]
-- column: peak        FLOAT
-- column: peak_offset INTEGER
-- column: population  BIGINT
-- grain: latent, example
WITH drawn AS (
    SELECT
        latent, role, 'activating' AS stratum, quantile, draw, document, start, length, peak,
        (peak_token - start)::INTEGER AS peak_offset, population
    FROM positives
    UNION ALL
    SELECT
        latent, role, 'random', NULL, draw, document, start, length, 0, NULL, population
    FROM negatives
),
numbered AS (
    SELECT
        latent,
        (row_number() OVER (
            PARTITION BY latent ORDER BY role, stratum, quantile, draw
        ) - 1)::INTEGER AS example,
        role,
        stratum,
        quantile,
        document,
        start,
        start // $context_tokens AS sequence,
        start % $context_tokens AS position,
        length,
        peak::FLOAT AS peak,
        peak_offset,
        population
    FROM drawn
)
SELECT
    n.latent,
    n.example,
    n.role,
    n.stratum,
    n.quantile,
    n.document,
    n.start,
    s.tokens[n.position + 1 : n.position + n.length] AS tokens,
    n.peak,
    n.peak_offset,
    n.population
FROM numbered AS n
INNER JOIN sequences AS s ON s.corpus = $corpus AND s.sequence = n.sequence
ORDER BY n.latent, n.example
