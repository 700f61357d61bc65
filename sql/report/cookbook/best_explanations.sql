-- name: report/cookbook/best_explanations
-- Which explanations hold best? By the lower end of the interval of balanced accuracy.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: latent    INTEGER
-- column: explainer VARCHAR
-- column: scorer    VARCHAR
-- column: text      VARCHAR
-- column: value     DOUBLE   balanced accuracy
-- column: ci_low    DOUBLE
-- column: corrected DOUBLE   way from the null to 1
-- grain: capture, hookpoint, latent, explainer, scorer
WITH newest AS (
    SELECT capture, hookpoint, latent, explanation, explainer, "text", status, reason
    FROM explanations
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, latent, explainer ORDER BY created_at DESC, explanation
    ) = 1
),
scored AS (
    SELECT
        capture, hookpoint, latent, explanation, scorer, "value", ci_low, corrected, p_value
    FROM scores
    WHERE metric = 'balanced_accuracy' AND "value" IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, explanation, scorer ORDER BY created_at DESC, settings
    ) = 1
)
SELECT
    s.capture, s.hookpoint, s.latent, e.explainer, s.scorer, e."text", s."value", s.ci_low,
    s.corrected
FROM scored AS s
JOIN newest AS e
    ON s.capture = e.capture AND s.hookpoint = e.hookpoint AND s.explanation = e.explanation
WHERE s.ci_low IS NOT NULL
ORDER BY s.ci_low DESC, s."value" DESC, s.capture, s.hookpoint, s.latent, e.explainer, s.scorer
LIMIT 20
