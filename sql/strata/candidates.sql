-- name: strata/candidates
-- A table, still empty, for the tiles that hard negatives may show, in the order of the draw.
-- column: latent     INTEGER
-- column: role       VARCHAR
-- column: stratum    VARCHAR
-- column: n          BIGINT    windows wanted
-- column: number     BIGINT    of the tile
-- column: token      BIGINT    that the window is shown about; NULL for any of the tile
-- column: neighbour  INTEGER
-- column: similarity DOUBLE
-- column: population BIGINT    silent tiles of the role that belong to the stratum
-- column: place      BIGINT    0-based order of the draw
-- grain: latent, role, stratum, place
CREATE OR REPLACE TEMP TABLE candidates (
    latent INTEGER,
    role VARCHAR,
    stratum VARCHAR,
    n BIGINT,
    number BIGINT,
    token BIGINT,
    neighbour INTEGER,
    similarity DOUBLE,
    population BIGINT,
    place BIGINT
)
