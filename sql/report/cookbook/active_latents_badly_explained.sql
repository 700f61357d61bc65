-- name: report/cookbook/active_latents_badly_explained
-- Which latents matter most and are understood least? Those whose best explanation still has
-- an interval that reaches a balanced accuracy of 0.6, by activation mass.
-- column: capture    VARCHAR
-- column: hookpoint  VARCHAR
-- column: latent     INTEGER
-- column: mass       DOUBLE   mean activation per token of the corpus
-- column: best_low   DOUBLE   lower end of the best interval
-- column: best_value DOUBLE
-- grain: capture, hookpoint, latent
WITH scored AS (
    SELECT
        capture, hookpoint, latent, explanation, scorer, "value", ci_low, corrected, p_value
    FROM scores
    WHERE metric = 'balanced_accuracy' AND "value" IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, explanation, scorer ORDER BY created_at DESC, settings
    ) = 1
),
best AS (
    SELECT capture, hookpoint, latent, max(ci_low) AS best_low, max("value") AS best_value
    FROM scored
    GROUP BY capture, hookpoint, latent
)
SELECT
    l.capture, l.hookpoint, l.latent,
    l.density * CAST(l."mean" AS DOUBLE) AS mass, b.best_low, b.best_value
FROM latents AS l
JOIN best AS b
    ON l.capture = b.capture AND l.hookpoint = b.hookpoint AND l.latent = b.latent
WHERE b.best_low < 0.6
ORDER BY mass DESC, l.capture, l.hookpoint, l.latent
LIMIT 50
