-- name: report/cookbook/score_drift_since_last_week
-- Which scores moved since last week? The newest balanced accuracy of the last seven days
-- against the newest before; a week is counted back from the newest score.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: latent    INTEGER
-- column: explainer VARCHAR
-- column: scorer    VARCHAR
-- column: before    DOUBLE
-- column: now       DOUBLE
-- column: change    DOUBLE
-- grain: capture, hookpoint, latent, explainer, scorer
WITH dated AS (
    SELECT
        s.capture, s.hookpoint, s.latent, e.explainer, s.scorer, s."value", s.explanation,
        s.settings,
        (max(extract(epoch FROM s.created_at)) OVER () - extract(epoch FROM s.created_at)) <= 604800
            AS is_new,
        s.created_at AS created_at
    FROM scores AS s
    JOIN explanations AS e
        ON s.capture = e.capture AND s.hookpoint = e.hookpoint AND s.explanation = e.explanation
    WHERE s.metric = 'balanced_accuracy' AND s."value" IS NOT NULL
),
newest AS (
    SELECT capture, hookpoint, latent, explainer, scorer, "value", is_new
    FROM dated
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, latent, explainer, scorer, is_new
        ORDER BY created_at DESC, explanation, settings
    ) = 1
)
SELECT
    n.capture, n.hookpoint, n.latent, n.explainer, n.scorer, b."value" AS before,
    n."value" AS now, n."value" - b."value" AS change
FROM newest AS n
JOIN newest AS b
    ON n.capture = b.capture AND n.hookpoint = b.hookpoint AND n.latent = b.latent
        AND n.explainer = b.explainer AND n.scorer = b.scorer
WHERE n.is_new AND NOT b.is_new
ORDER BY abs(n."value" - b."value") DESC, n.capture, n.hookpoint, n.latent, n.explainer, n.scorer
LIMIT 50
