-- name: sampling/tiles
-- The units of population: each document's tokens within one sequence, cut from their start into
-- tiles of $window_tokens, the last one shorter. Every captured token of a document lies in
-- exactly one tile. A document's digest and the seed alone decide its role, so tokens added later
-- change no role; `ring` is a tile's fixed place on the circle that negatives are walked on.
-- param: corpus         VARCHAR
-- param: n_sequences    BIGINT   leading sequences that the capture has processed
-- param: context_tokens BIGINT
-- param: window_tokens  BIGINT
-- param: seed           BIGINT
-- param: explain_share  DOUBLE
-- column: number   INTEGER   0-based place in the corpus
-- column: tile     BIGINT    first token
-- column: length   BIGINT
-- column: document BIGINT
-- column: role     VARCHAR
-- column: first    BIGINT    first token of the document within the sequence
-- column: stop     BIGINT    token after its last one
-- column: ring     BIGINT
-- grain: number
CREATE OR REPLACE TEMP TABLE tiles AS
WITH cut AS (
    SELECT
        sequence * $context_tokens AS base,
        unnest(documents) AS span,
        unnest(list_append(list_transform(documents[2:], lambda d: d.start), len(tokens))) AS stop
    FROM sequences
    WHERE corpus = $corpus AND sequence < $n_sequences
),
spans AS (
    SELECT base + span.start AS first, base + stop AS stop, span.document AS document
    FROM cut
    WHERE span.document IS NOT NULL
),
cuts AS (
    SELECT unnest(range(first, stop, $window_tokens)) AS tile, first, stop, document
    FROM spans
)
SELECT
    (row_number() OVER (ORDER BY tile) - 1)::INTEGER AS number,
    tile,
    least($window_tokens::BIGINT, stop - tile) AS length,
    document,
    CASE
        WHEN mix($seed::BIGINT, document) < $explain_share::DOUBLE * 4294967296 THEN 'explain'
        ELSE 'score'
    END AS role,
    first,
    stop,
    mix(mix($seed::BIGINT, -1), tile) AS ring
FROM cuts
