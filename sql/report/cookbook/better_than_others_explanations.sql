-- name: report/cookbook/better_than_others_explanations
-- How many explanations are better than ones borrowed from other latents? The share of scores
-- with p at most 0.05; a twentieth would be chance.
-- column: capture        VARCHAR
-- column: hookpoint      VARCHAR
-- column: explainer      VARCHAR
-- column: scorer         VARCHAR
-- column: n              BIGINT
-- column: share          DOUBLE
-- column: mean_corrected DOUBLE
-- grain: capture, hookpoint, explainer, scorer
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
    s.capture, s.hookpoint, e.explainer, s.scorer, count(*) AS n,
    CAST(count(CASE WHEN s.p_value <= 0.05 THEN 1 END) AS DOUBLE) / count(*) AS share,
    avg(s.corrected) AS mean_corrected
FROM scored AS s
JOIN newest AS e
    ON s.capture = e.capture AND s.hookpoint = e.hookpoint AND s.explanation = e.explanation
WHERE s.p_value IS NOT NULL
GROUP BY s.capture, s.hookpoint, e.explainer, s.scorer
ORDER BY s.capture, s.hookpoint, e.explainer, s.scorer
