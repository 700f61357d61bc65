-- name: neighbours/meetings
-- Every time that a latent of one range fires on the same token as another latent, itself among
-- them: the pair as one number, once for each such token. Read from the lists of `together`, so
-- that no pair is visited that never met.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER   of the range
-- param: first     INTEGER   first latent of the range
-- param: stop      INTEGER   latent after its last one
-- param: n_latents INTEGER   of the hookpoint
-- param: n_tokens  BIGINT    leading tokens that the capture has processed
-- column: pair INTEGER   (latent - first) * n_latents + the other latent
WITH fired AS (
    SELECT (latent - $first::INTEGER) * $n_latents::INTEGER AS row, token
    FROM activations
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND bucket = $bucket
        AND latent >= $first
        AND latent < $stop
        AND token < $n_tokens
)
SELECT f.row + unnest(t.latents) AS pair
FROM fired AS f
INNER JOIN together AS t ON f.token = t.token
