-- name: strata/tiles
-- What the draw of neighbour windows needs to know of each tile, in order.
-- column: tile     BIGINT    first token
-- column: ring     BIGINT
-- column: is_score BOOLEAN   whether its role is score
-- grain: tile
SELECT tile, ring, role = 'score' AS is_score
FROM tiles
ORDER BY number
