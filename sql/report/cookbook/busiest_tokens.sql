-- name: report/cookbook/busiest_tokens
-- At which places of the corpus do most latents fire at once? `sequence` and `position` say
-- where.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: token     BIGINT
-- column: sequence  BIGINT
-- column: position  BIGINT
-- column: n_latents BIGINT
-- column: largest   FLOAT   activation
-- grain: capture, hookpoint, token
WITH counted AS (
    SELECT capture, hookpoint, token, count(*) AS n_latents, max("value") AS largest
    FROM activations
    GROUP BY capture, hookpoint, token
)
SELECT
    n.capture, n.hookpoint, n.token,
    n.token // c.context_tokens AS sequence,
    n.token % c.context_tokens AS position,
    n.n_latents, n.largest
FROM counted AS n
JOIN captures AS c ON n.capture = c.capture
ORDER BY n.n_latents DESC, n.largest DESC, n.capture, n.hookpoint, n.token
LIMIT 20
