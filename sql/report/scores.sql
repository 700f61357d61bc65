-- name: report/scores
-- Every metric of some explanations, the newest of each scorer and metric.
-- param: capture      VARCHAR
-- param: explanations VARCHAR[]
-- column: hookpoint   VARCHAR
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: scorer      VARCHAR
-- column: settings    VARCHAR
-- column: metric      VARCHAR
-- column: value       DOUBLE
-- column: ci_low      DOUBLE
-- column: ci_high     DOUBLE
-- column: n           BIGINT
-- column: n_failed    BIGINT
-- column: null_value  DOUBLE
-- column: corrected   DOUBLE
-- column: p_value     DOUBLE
-- column: status      VARCHAR
-- grain: hookpoint, latent, explanation, scorer, metric
WITH wanted AS (
    SELECT DISTINCT unnest($explanations) AS explanation
),
ranked AS (
    SELECT
        s.hookpoint, s.latent, s.explanation, s.scorer, s.settings, s.metric, s."value", s.ci_low,
        s.ci_high, s.n, s.n_failed, s.null_value, s.corrected, s.p_value, s.status,
        row_number() OVER (
            PARTITION BY s.hookpoint, s.latent, s.explanation, s.scorer, s.metric
            ORDER BY s.created_at DESC NULLS LAST, s.settings
        ) AS age
    FROM scores AS s
    JOIN wanted AS w USING (explanation)
    WHERE s.capture = $capture
)
SELECT
    hookpoint, latent, explanation, scorer, settings, metric, "value", ci_low, ci_high, n,
    n_failed, null_value, corrected, p_value, status
FROM ranked
WHERE age = 1
ORDER BY hookpoint, latent, explanation, scorer, metric
