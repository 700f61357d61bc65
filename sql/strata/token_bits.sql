-- name: strata/token_bits
-- The tiles that hold each token id of `peak_tokens`, one bit a tile of the corpus.
-- param: last BIGINT   number of the last tile
-- column: token_id INTEGER
-- column: bits     BIT
-- grain: token_id
CREATE OR REPLACE TEMP TABLE token_bits AS
SELECT token_id, bitstring_agg(number, 0, $last::BIGINT) AS bits
FROM spelled
WHERE token_id IN (SELECT token_id FROM peak_tokens)
GROUP BY token_id
