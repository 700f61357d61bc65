-- name: web/history
-- All explanations that one latent ever had, each with one metric by every scorer and its settings,
-- the newest first.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: latent    INTEGER
-- param: metric    VARCHAR
-- column: explanation  VARCHAR
-- column: explainer    VARCHAR
-- column: made         VARCHAR   digest of the explainer's settings
-- column: sample       VARCHAR
-- column: text         VARCHAR
-- column: status       VARCHAR
-- column: reason       VARCHAR
-- column: detail       VARCHAR   JSON
-- column: reply_keys   VARCHAR[]
-- column: explained_at TIMESTAMP WITH TIME ZONE
-- column: scorer       VARCHAR   NULL if it has no score of the metric
-- column: settings     VARCHAR   digest of the scorer's settings
-- column: value        DOUBLE
-- column: ci_low       DOUBLE
-- column: ci_high      DOUBLE
-- column: null_value   DOUBLE
-- column: n            BIGINT
-- column: n_failed     BIGINT
-- column: score_status VARCHAR
-- column: scored_at    TIMESTAMP WITH TIME ZONE
-- grain: explanation, scorer, settings
SELECT
    e.explanation, e.explainer, e.settings AS made, e.sample, e."text", e.status, e.reason,
    e.detail, e.reply_keys, e.created_at AS explained_at, s.scorer, s.settings, s."value",
    s.ci_low, s.ci_high, s.null_value, s.n, s.n_failed, s.status AS score_status,
    s.created_at AS scored_at
FROM explanations AS e
LEFT JOIN scores AS s
    ON s.capture = e.capture AND s.hookpoint = e.hookpoint AND s.explanation = e.explanation
        AND s.metric = $metric
WHERE e.capture = $capture AND e.hookpoint = $hookpoint AND e.latent = $latent
ORDER BY
    e.created_at DESC NULLS LAST, e.explainer, e.explanation, s.created_at DESC NULLS LAST,
    s.scorer, s.settings
