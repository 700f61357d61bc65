-- name: web/latent
-- All that was counted of one latent.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: latent    INTEGER
-- column: n_activations BIGINT
-- column: n_windows     BIGINT
-- column: n_documents   BIGINT
-- column: n_tokens      BIGINT
-- column: density       DOUBLE
-- column: max           FLOAT
-- column: mean          FLOAT
-- column: quantiles     FLOAT[]
-- column: histogram     STRUCT(low DOUBLE, high DOUBLE, count BIGINT)[]
-- column: top_tokens    STRUCT(token_id INTEGER, count BIGINT, pmi DOUBLE)[]
-- column: top_before    STRUCT(token_id INTEGER, count BIGINT, pmi DOUBLE)[]
-- column: top_after     STRUCT(token_id INTEGER, count BIGINT, pmi DOUBLE)[]
-- column: single_token  DOUBLE
-- column: first_share   DOUBLE
-- column: status        VARCHAR
SELECT
    n_activations, n_windows, n_documents, n_tokens, density, max, mean, quantiles, histogram,
    top_tokens, top_before, top_after, single_token, first_share, status
FROM latents
WHERE capture = $capture AND hookpoint = $hookpoint AND latent = $latent
