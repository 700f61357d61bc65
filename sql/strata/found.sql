-- name: strata/found
-- A table, still empty, for the silent tiles nearest to each query.
-- column: latent     INTEGER
-- column: role       VARCHAR
-- column: query      BIGINT
-- column: number     BIGINT
-- column: similarity DOUBLE
-- grain: latent, query, number
CREATE OR REPLACE TEMP TABLE found (
    latent INTEGER, role VARCHAR, query BIGINT, number BIGINT, similarity DOUBLE
)
