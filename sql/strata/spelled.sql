-- name: strata/spelled
-- Where each token id stands: the tiles that hold it, with its first place in each, in the order
-- of token id, role and the ring of tiles, on which every tile has a fixed and random place.
-- column: id       BIGINT    0-based in that order
-- column: token_id INTEGER
-- column: role     VARCHAR
-- column: slot     BIGINT    which 256th of the ring the tile lies in
-- column: number   INTEGER   of the tile
-- column: token    BIGINT    first one in the tile
-- grain: id
CREATE OR REPLACE TEMP TABLE spelled AS
WITH flat AS (
    SELECT
        unnest(text) AS token_id,
        unnest(tile_of) AS number,
        generate_subscripts(text, 1) - 1 AS token
    FROM lookup
),
once AS (
    SELECT token_id, number, min(token) AS token
    FROM flat
    WHERE number IS NOT NULL
    GROUP BY token_id, number
)
SELECT
    row_number() OVER (ORDER BY o.token_id, t.role, t.ring, t.number) - 1 AS id,
    o.token_id,
    t.role,
    t.ring >> 24 AS slot,
    t.number,
    o.token
FROM once AS o
INNER JOIN tiles AS t ON o.number = t.number
