-- name: bridges/latent_rows
-- How many rows each latent of a hookpoint has on the leading tokens of a capture, and how far
-- they reach.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: n_tokens  BIGINT   leading tokens that the capture has processed
-- column: latent     INTEGER
-- column: n_rows     BIGINT
-- column: n_positive BIGINT
-- column: last       BIGINT   token of the last row
-- grain: latent
SELECT
    latent,
    count(*) AS n_rows,
    count(*) FILTER (WHERE value > 0) AS n_positive,
    max(token) AS last
FROM activations
WHERE capture = $capture AND hookpoint = $hookpoint AND token < $n_tokens
GROUP BY latent
ORDER BY latent
