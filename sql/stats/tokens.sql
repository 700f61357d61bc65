-- name: stats/tokens
-- The captured tokens that belong to a document, one a row: the tile each lies in and its id.
-- param: corpus         VARCHAR
-- param: n_sequences    BIGINT
-- param: context_tokens BIGINT
-- column: token    BIGINT
-- column: token_id INTEGER
-- grain: token
CREATE OR REPLACE TEMP TABLE corpus_tokens AS
WITH spelled AS (
    SELECT
        sequence * $context_tokens + generate_subscripts(tokens, 1) - 1 AS token,
        unnest(tokens) AS token_id
    FROM sequences
    WHERE corpus = $corpus AND sequence < $n_sequences
),
inside AS (
    SELECT unnest(range(tile, tile + length)) AS token FROM tiles
)
SELECT s.token, s.token_id
FROM spelled AS s
SEMI JOIN inside AS i ON s.token = i.token
