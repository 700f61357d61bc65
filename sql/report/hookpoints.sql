-- name: report/hookpoints
-- The hookpoints of a capture: where each coder reads and what was measured when it was loaded.
-- param: capture VARCHAR
-- column: hookpoint          VARCHAR
-- column: architecture       VARCHAR
-- column: site               VARCHAR
-- column: d_in               INTEGER
-- column: n_latents          INTEGER
-- column: bucket_latents     INTEGER
-- column: k                  INTEGER
-- column: l0                 DOUBLE
-- column: explained_variance DOUBLE
-- column: n_tokens           BIGINT   tokens the latents were counted over, NULL before sampling
-- grain: hookpoint
WITH counted AS (
    SELECT hookpoint, max(n_tokens) AS n_tokens
    FROM latents
    WHERE capture = $capture
    GROUP BY hookpoint
)
SELECT
    h.hookpoint, h.architecture, h.site, h.d_in, h.n_latents, h.bucket_latents, h.k, h.l0,
    h.explained_variance, c.n_tokens
FROM hookpoints AS h
LEFT JOIN counted AS c USING (hookpoint)
WHERE h.capture = $capture
ORDER BY h.hookpoint
