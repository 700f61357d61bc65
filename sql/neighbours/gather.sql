-- name: neighbours/gather
-- Add the tokens of one range to `together`. The lists of one range are in memory while they are
-- made; the table itself may go to disk.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: first     BIGINT
-- param: stop      BIGINT
-- column: Count BIGINT   tokens added
INSERT INTO together
SELECT token, list(latent)
FROM activations
WHERE capture = $capture AND hookpoint = $hookpoint AND token >= $first AND token < $stop
GROUP BY token
