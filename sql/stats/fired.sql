-- name: stats/fired
-- The activations of some latents of one unit, or of several that follow each other, in the order
-- of the files, each of which is sorted by latent and token.
-- param: capture     VARCHAR
-- param: hookpoint   VARCHAR
-- param: bucket      INTEGER   of the first unit
-- param: last_bucket INTEGER
-- param: first       INTEGER   first latent
-- param: stop        INTEGER   latent after the last one
-- param: n_tokens    BIGINT    leading tokens that the capture has processed
-- column: latent INTEGER
-- column: token  BIGINT
-- column: value  FLOAT
-- grain: latent, token
SELECT latent, token, "value"
FROM activations
WHERE capture = $capture
    AND hookpoint = $hookpoint
    AND bucket BETWEEN $bucket AND $last_bucket
    AND latent >= $first
    AND latent < $stop
    AND token < $n_tokens
