-- name: strata/near
-- The nearest latents of each latent that examples are drawn for, those of several methods in
-- turn: by rank, then in the order in which the methods are named. A latent stands once.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: methods   VARCHAR[]
-- param: n_nearest BIGINT      of each method
-- param: seed      BIGINT
-- column: latent     INTEGER
-- column: place      BIGINT   0-based
-- column: neighbour  INTEGER
-- column: similarity DOUBLE   by the method that put it there
-- column: origin     BIGINT   where on the ring of tiles the latent's walk begins
-- grain: latent, place
CREATE OR REPLACE TEMP TABLE near AS
WITH ranked AS (
    SELECT latent, neighbour, similarity, rank, list_position($methods, method) AS turn
    FROM neighbours
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND list_contains($methods, method)
        AND rank <= $n_nearest
        AND latent IN (SELECT latent FROM cells)
),
once AS (
    SELECT latent, neighbour, similarity, rank, turn
    FROM ranked
    QUALIFY row_number() OVER (PARTITION BY latent, neighbour ORDER BY rank, turn) = 1
)
SELECT
    latent,
    row_number() OVER (PARTITION BY latent ORDER BY rank, turn) - 1 AS place,
    neighbour,
    similarity,
    mix(mix($seed::BIGINT, -5), latent) AS origin
FROM once
