-- name: bridges/measured
-- The scores of a hookpoint that stand, one row for each metric: for tables that leave the lake.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR     NULL gives those of all
-- param: latents   INTEGER[]   NULL gives those of all
-- column: capture     VARCHAR
-- column: hookpoint   VARCHAR
-- column: latent      INTEGER
-- column: explainer   VARCHAR
-- column: explanation VARCHAR
-- column: scorer      VARCHAR
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
-- column: settings    VARCHAR
-- column: created_at  TIMESTAMP WITH TIME ZONE
-- grain: hookpoint, latent, explainer, scorer, metric
SELECT
    $capture AS capture, s.hookpoint, s.latent, s.explainer, s.explanation, s.scorer, s.metric,
    s."value", s.ci_low, s.ci_high, s.n, s.n_failed, s.null_value, s.corrected, s.p_value,
    s.status, s.settings, s.created_at
FROM newest_scores($capture) AS s
WHERE s.hookpoint = $hookpoint
    AND ($explainer IS NULL OR s.explainer = $explainer)
    AND ($latents IS NULL OR list_contains($latents, s.latent))
ORDER BY s.latent, s.explainer, s.scorer, s.metric
