-- name: sampling/ring
-- The tiles by their place on the ring, in cells of about eight tiles, so that an arc is found by
-- an equality join on the cells it crosses.
-- param: n_cells BIGINT
-- column: cell   BIGINT
-- column: ring   BIGINT
-- column: number BIGINT
-- column: role   VARCHAR
-- grain: number
CREATE OR REPLACE TEMP TABLE ring AS
SELECT (ring * $n_cells) >> 32 AS cell, ring, number, role
FROM tiles
