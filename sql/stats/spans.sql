-- name: stats/spans
-- The document of each tile and where the span of it begins that the tile is cut from.
-- column: number   INTEGER
-- column: first    BIGINT
-- column: document BIGINT
-- grain: number
SELECT number, "first", document
FROM tiles
ORDER BY number
