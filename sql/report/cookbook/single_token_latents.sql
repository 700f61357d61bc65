-- name: report/cookbook/single_token_latents
-- Which latents stand for one token? Those with nine in ten activations at the same token, and
-- that token.
-- column: capture       VARCHAR
-- column: hookpoint     VARCHAR
-- column: latent        INTEGER
-- column: token         VARCHAR
-- column: share         DOUBLE   of the latent's activations
-- column: n_activations BIGINT
-- grain: capture, hookpoint, latent
WITH listed AS (
    SELECT capture, hookpoint, latent, single_token, n_activations, unnest(top_tokens) AS piece
    FROM latents
    WHERE single_token >= 0.9 AND n_activations >= 20
),
first_ones AS (
    SELECT capture, hookpoint, latent, single_token, n_activations, piece.token_id AS token_id
    FROM listed
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, latent ORDER BY piece."count" DESC, piece.token_id
    ) = 1
)
SELECT
    f.capture, f.hookpoint, f.latent, v."text" AS token, f.single_token AS share, f.n_activations
FROM first_ones AS f
JOIN captures AS c ON f.capture = c.capture
JOIN vocabulary AS v ON c.tokenizer = v.tokenizer AND f.token_id = v.token_id
ORDER BY f.n_activations DESC, f.capture, f.hookpoint, f.latent
LIMIT 50
