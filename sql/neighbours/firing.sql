-- name: neighbours/firing
-- On how many captured tokens each latent of a hookpoint fires; silent latents have no row.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: n_tokens  BIGINT   leading tokens that the capture has processed
-- column: latent INTEGER
-- column: n      BIGINT
-- grain: latent
SELECT latent, count(*) AS n
FROM activations
WHERE capture = $capture AND hookpoint = $hookpoint AND token < $n_tokens
GROUP BY latent
