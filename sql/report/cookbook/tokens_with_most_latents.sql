-- name: report/cookbook/tokens_with_most_latents
-- Which tokens have most latents of their own? A latent counts for its commonest token.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: token_id  INTEGER
-- column: token     VARCHAR
-- column: n_latents BIGINT
-- column: n_single  BIGINT   of them, with nine in ten activations there
-- grain: capture, hookpoint, token_id
WITH listed AS (
    SELECT capture, hookpoint, latent, single_token, unnest(top_tokens) AS piece
    FROM latents
    WHERE n_activations > 0
),
first_ones AS (
    SELECT capture, hookpoint, latent, single_token, piece.token_id AS token_id
    FROM listed
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, latent ORDER BY piece."count" DESC, piece.token_id
    ) = 1
),
counted AS (
    SELECT
        capture, hookpoint, token_id, count(*) AS n_latents,
        count(CASE WHEN single_token >= 0.9 THEN 1 END) AS n_single
    FROM first_ones
    WHERE token_id IS NOT NULL
    GROUP BY capture, hookpoint, token_id
)
SELECT n.capture, n.hookpoint, n.token_id, v."text" AS token, n.n_latents, n.n_single
FROM counted AS n
JOIN captures AS c ON n.capture = c.capture
JOIN vocabulary AS v ON c.tokenizer = v.tokenizer AND n.token_id = v.token_id
ORDER BY n.n_latents DESC, n.capture, n.hookpoint, n.token_id
LIMIT 50
