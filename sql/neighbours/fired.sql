-- name: neighbours/fired
-- The tokens on which a range of latents of one unit fires, in no order.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: first     INTEGER   first latent
-- param: last      INTEGER   last latent
-- param: n_tokens  BIGINT    leading tokens that the capture has processed
-- column: latent INTEGER
-- column: token  BIGINT
-- grain: latent, token
SELECT latent, token
FROM activations
WHERE capture = $capture
    AND hookpoint = $hookpoint
    AND bucket = $bucket
    AND latent BETWEEN $first AND $last
    AND token < $n_tokens
