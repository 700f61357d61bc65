-- name: macros/newest_scores
-- The scores of a capture that stand: of each scorer and metric the newest one of each
-- explanation in newest_explanations(of_capture), with the explainer that wrote it.
CREATE OR REPLACE MACRO newest_scores(of_capture) AS TABLE
SELECT
    s.hookpoint, s.latent, s.explanation, e.explainer, s.scorer, s.settings, s.metric,
    s."value", s.ci_low, s.ci_high, s.n, s.n_failed, s.null_value, s.corrected, s.p_value,
    s.status, s.created_at
FROM scores AS s
JOIN newest_explanations(of_capture) AS e USING (hookpoint, latent, explanation)
WHERE s.capture = of_capture
QUALIFY row_number() OVER (
    PARTITION BY s.hookpoint, s.latent, s.explanation, s.scorer, s.metric
    ORDER BY s.created_at DESC NULLS LAST, s.settings
) = 1
