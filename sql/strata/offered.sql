-- name: strata/offered
-- The tiles that hard negatives may show, in the order of the draw.
-- column: latent     INTEGER
-- column: role       VARCHAR
-- column: stratum    VARCHAR
-- column: n          BIGINT
-- column: number     BIGINT
-- column: token      BIGINT
-- column: neighbour  INTEGER
-- column: similarity DOUBLE
-- column: population BIGINT
-- column: place      BIGINT
-- grain: latent, role, stratum, place
SELECT
    latent, role, stratum, n, number, token, neighbour, similarity, population, place
FROM candidates
ORDER BY latent, role, stratum, place
