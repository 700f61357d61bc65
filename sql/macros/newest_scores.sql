-- name: macros/newest_scores
-- The scores of a capture that stand: of each explanation in newest_explanations(of_capture) and
-- each scorer all metrics of the settings that were scored last, and of no others, with the
-- explainer that wrote it.
CREATE OR REPLACE MACRO newest_scores(of_capture) AS TABLE
SELECT
    s.hookpoint, s.latent, s.explanation, e.explainer, s.scorer, s.settings, s.metric,
    s."value", s.ci_low, s.ci_high, s.n, s.n_failed, s.null_value, s.corrected, s.p_value,
    s.status, s.created_at
FROM scores AS s
JOIN newest_explanations(of_capture) AS e USING (hookpoint, latent, explanation)
WHERE s.capture = of_capture
QUALIFY s.settings = first_value(s.settings) OVER (
    PARTITION BY s.hookpoint, s.latent, s.explanation, s.scorer
    ORDER BY s.created_at DESC NULLS LAST, s.settings
    ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
)
