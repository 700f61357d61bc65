-- name: report/compare_runs
-- What a lake holds scores of: capture, explainer and its settings, scorer and its settings, with
-- the coder that was captured; the newest first.
-- column: capture   VARCHAR
-- column: coder     VARCHAR   with its revision
-- column: explainer VARCHAR
-- column: made      VARCHAR   settings of the explainer
-- column: scorer    VARCHAR
-- column: settings  VARCHAR   of the scorer
-- column: n_latents BIGINT    with a value of any metric
-- column: newest    TIMESTAMP WITH TIME ZONE
-- grain: capture, explainer, made, scorer, settings
SELECT
    s.capture,
    any_value(coalesce(c.coder, '') || '@' || coalesce(c.coder_revision, '')) AS coder,
    e.explainer,
    e.settings AS made,
    s.scorer,
    s.settings,
    count(DISTINCT (s.hookpoint, s.latent)) FILTER (s."value" IS NOT NULL) AS n_latents,
    max(s.created_at) AS newest
FROM scores AS s
JOIN explanations AS e
    ON s.capture = e.capture AND s.hookpoint = e.hookpoint AND s.explanation = e.explanation
LEFT JOIN captures AS c ON s.capture = c.capture
GROUP BY s.capture, e.explainer, e.settings, s.scorer, s.settings
ORDER BY newest DESC, s.capture, e.explainer, e.settings, s.scorer, s.settings
