-- name: sampling/lookup
-- One row that answers for any captured token by its place: `tile_of[token + 1]` and
-- `text[token + 1]`. A list is read in a third of the time of a hash join on the token.
-- param: corpus         VARCHAR
-- param: n_sequences    BIGINT   leading sequences that the capture has processed
-- param: context_tokens BIGINT
-- column: tile_of INTEGER[]   number of the tile; NULL where no document is, short of the last
-- column: text    INTEGER[]   token id
CREATE OR REPLACE TEMP TABLE lookup AS
WITH gaps AS (
    SELECT
        number,
        length,
        tile - coalesce(lag(tile + length) OVER (ORDER BY number), 0) AS gap
    FROM tiles
),
places AS (
    SELECT
        flatten(list(
            list_resize([]::INTEGER[], gap) || list_resize([]::INTEGER[], length, number)
            ORDER BY number
        )) AS tile_of
    FROM gaps
),
texts AS (
    SELECT flatten(list(list_resize(tokens, $context_tokens) ORDER BY sequence)) AS text
    FROM sequences
    WHERE corpus = $corpus AND sequence < $n_sequences
)
SELECT p.tile_of, t.text
FROM places AS p
CROSS JOIN texts AS t
