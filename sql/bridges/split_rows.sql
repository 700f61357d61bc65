-- name: bridges/split_rows
-- The rows of a range of latents of a hookpoint, in the order of their tokens.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: first     INTEGER
-- param: stop      INTEGER   not included
-- param: n_tokens  BIGINT    leading tokens that the capture has processed
-- column: token  BIGINT
-- column: latent INTEGER
-- column: value  FLOAT
-- grain: token, latent
SELECT token, latent, value
FROM activations
WHERE
    capture = $capture
    AND hookpoint = $hookpoint
    AND latent >= $first
    AND latent < $stop
    AND token < $n_tokens
ORDER BY token, latent
