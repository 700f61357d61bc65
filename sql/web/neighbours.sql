-- name: web/neighbours
-- The nearest latents of one latent by every method, the nearest first.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: latent    INTEGER
-- param: n_rows    BIGINT   of each method
-- column: method     VARCHAR
-- column: rank       INTEGER
-- column: neighbour  INTEGER
-- column: similarity DOUBLE
-- grain: method, rank
SELECT method, rank, neighbour, similarity
FROM neighbours
WHERE capture = $capture AND hookpoint = $hookpoint AND latent = $latent
QUALIFY row_number() OVER (PARTITION BY method ORDER BY rank, neighbour) <= $n_rows
ORDER BY method, rank, neighbour
