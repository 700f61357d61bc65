-- name: report/cookbook/cofiring_pairs
-- Which latents fire together? Pairs of the highest Jaccard index on every 16th token, of
-- those that met five times there.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: latent    INTEGER
-- column: other     INTEGER
-- column: n_both    BIGINT
-- column: n_latent  BIGINT
-- column: n_other   BIGINT
-- column: jaccard   DOUBLE   both / either
-- grain: capture, hookpoint, latent, other
WITH looked_at AS (
    SELECT capture, hookpoint, latent, token
    FROM activations
    WHERE token % 16 = 0
),
met AS (
    SELECT a.capture, a.hookpoint, a.latent, b.latent AS other, count(*) AS n_both
    FROM looked_at AS a
    JOIN looked_at AS b
        ON a.capture = b.capture AND a.hookpoint = b.hookpoint AND a.token = b.token
    WHERE a.latent < b.latent
    GROUP BY a.capture, a.hookpoint, a.latent, b.latent
    HAVING count(*) >= 5
),
alone AS (
    SELECT capture, hookpoint, latent, count(*) AS n
    FROM looked_at
    GROUP BY capture, hookpoint, latent
)
SELECT
    m.capture, m.hookpoint, m.latent, m.other, m.n_both, a.n AS n_latent, b.n AS n_other,
    CAST(m.n_both AS DOUBLE) / (a.n + b.n - m.n_both) AS jaccard
FROM met AS m
JOIN alone AS a
    ON m.capture = a.capture AND m.hookpoint = a.hookpoint AND m.latent = a.latent
JOIN alone AS b
    ON m.capture = b.capture AND m.hookpoint = b.hookpoint AND m.other = b.latent
ORDER BY jaccard DESC, m.n_both DESC, m.capture, m.hookpoint, m.latent, m.other
LIMIT 50
