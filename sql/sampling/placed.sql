-- name: sampling/placed
-- The tiles in order, for placing windows in them.
-- column: tile     BIGINT
-- column: length   BIGINT
-- column: document BIGINT
-- column: first    BIGINT
-- column: stop     BIGINT
-- column: ring     BIGINT
-- column: is_score INTEGER   1 for the role score
-- grain: tile
SELECT tile, length, document, first, stop, ring, (role = 'score')::INTEGER AS is_score
FROM tiles
ORDER BY number
