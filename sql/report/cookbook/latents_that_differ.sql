-- name: report/cookbook/latents_that_differ
-- Which latents fire much more in one capture than in another of the same coder, on another
-- corpus for example? By the ratio of densities, half an activation added to each.
-- column: hookpoint  VARCHAR
-- column: latent     INTEGER
-- column: capture_a  VARCHAR
-- column: capture_b  VARCHAR
-- column: density_a  DOUBLE
-- column: density_b  DOUBLE
-- column: log2_ratio DOUBLE   of b over a
-- grain: hookpoint, latent, capture_a, capture_b
WITH rates AS (
    SELECT
        l.capture, l.hookpoint, l.latent, l.density, c.coder,
        (CAST(l.n_activations AS DOUBLE) + 0.5) / (CAST(l.n_tokens AS DOUBLE) + 1) AS rate
    FROM latents AS l
    JOIN captures AS c ON l.capture = c.capture
)
SELECT
    a.hookpoint, a.latent, a.capture AS capture_a, b.capture AS capture_b,
    a.density AS density_a, b.density AS density_b,
    ln(b.rate / a.rate) / ln(2) AS log2_ratio
FROM rates AS a
JOIN rates AS b ON a.coder = b.coder AND a.hookpoint = b.hookpoint AND a.latent = b.latent
WHERE a.capture < b.capture
ORDER BY abs(log2_ratio) DESC, a.hookpoint, a.latent, capture_a, capture_b
LIMIT 50
