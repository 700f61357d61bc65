-- name: report/scores
-- Every metric of some explanations, of each scorer those of the settings that were scored last.
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
)
SELECT
    s.hookpoint, s.latent, s.explanation, s.scorer, s.settings, s.metric, s."value", s.ci_low,
    s.ci_high, s.n, s.n_failed, s.null_value, s.corrected, s.p_value, s.status
FROM scores AS s
JOIN wanted AS w USING (explanation)
WHERE s.capture = $capture
QUALIFY s.settings = first_value(s.settings) OVER (
    PARTITION BY s.hookpoint, s.latent, s.explanation, s.scorer
    ORDER BY s.created_at DESC NULLS LAST, s.settings
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
)
ORDER BY s.hookpoint, s.latent, s.explanation, s.scorer, s.metric
