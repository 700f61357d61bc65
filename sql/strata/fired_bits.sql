-- name: strata/fired_bits
-- The tiles in which each latent that examples are drawn for fires, one bit a tile of the corpus.
-- param: last BIGINT   number of the last tile
-- column: latent INTEGER
-- column: bits   BIT
-- grain: latent
CREATE OR REPLACE TEMP TABLE fired_bits AS
SELECT w.latent, bitstring_agg(w.number, 0, $last::BIGINT) AS bits
FROM windows AS w
WHERE w.latent IN (SELECT latent FROM cells)
GROUP BY w.latent
