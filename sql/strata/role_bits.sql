-- name: strata/role_bits
-- The tiles of each role, one bit a tile of the corpus.
-- param: last BIGINT   number of the last tile
-- column: role VARCHAR
-- column: bits BIT
-- grain: role
CREATE OR REPLACE TEMP TABLE role_bits AS
SELECT role, bitstring_agg(number, 0, $last::BIGINT) AS bits
FROM tiles
GROUP BY role
