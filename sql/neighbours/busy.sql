-- name: neighbours/busy
-- How many latents of a hookpoint fire on each captured token; tokens of none have no row.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: n_tokens  BIGINT   leading tokens that the capture has processed
-- column: token BIGINT
-- column: n     BIGINT
-- grain: token
SELECT token, count(*) AS n
FROM activations
WHERE capture = $capture AND hookpoint = $hookpoint AND token < $n_tokens
GROUP BY token
