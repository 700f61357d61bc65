-- name: report/latents
-- The explained latents of a capture in the order of one explainer's and scorer's metric, best or
-- worst first: with $scored those that have that metric by any explainer and scorer (the ones
-- without it by this pair come last), else those that are explained and have it by none.
-- param: capture   VARCHAR
-- param: explainer VARCHAR
-- param: scorer    VARCHAR
-- param: metric    VARCHAR
-- param: scored    BOOLEAN
-- param: ascending BOOLEAN
-- param: n_rows    BIGINT
-- column: hookpoint     VARCHAR
-- column: latent        INTEGER
-- column: n_activations BIGINT
-- column: n_windows     BIGINT
-- column: n_documents   BIGINT
-- column: density       DOUBLE
-- column: max           FLOAT
-- column: mean          FLOAT
-- column: top_tokens    STRUCT(token_id INTEGER, count BIGINT, pmi DOUBLE)[]
-- column: single_token  DOUBLE
-- column: status        VARCHAR   of the latent
-- column: explanation   VARCHAR   of this explainer, NULL if it has none
-- column: text          VARCHAR
-- column: value         DOUBLE
-- column: ci_low        DOUBLE
-- column: ci_high       DOUBLE
-- column: n             BIGINT
-- column: n_failed      BIGINT
-- column: null_value    DOUBLE
-- column: corrected     DOUBLE
-- column: p_value       DOUBLE
-- grain: hookpoint, latent
WITH by_metric AS (
    SELECT
        hookpoint, latent, explainer, scorer, "value", ci_low, ci_high, n, n_failed, null_value,
        corrected, p_value
    FROM newest_scores($capture)
    WHERE metric = $metric
),
listed AS (
    SELECT hookpoint, latent FROM by_metric WHERE "value" IS NOT NULL AND $scored
    UNION
    SELECT e.hookpoint, e.latent
    FROM newest_explanations($capture) AS e
    ANTI JOIN (SELECT hookpoint, latent FROM by_metric WHERE "value" IS NOT NULL) AS s
        USING (hookpoint, latent)
    WHERE e.status = 'ok' AND NOT $scored
),
own AS (
    SELECT hookpoint, latent, explanation, "text"
    FROM newest_explanations($capture)
    WHERE explainer = $explainer
)
SELECT
    i.hookpoint, i.latent, l.n_activations, l.n_windows, l.n_documents, l.density, l.max, l.mean,
    l.top_tokens, l.single_token, l.status, o.explanation, o."text", s."value", s.ci_low,
    s.ci_high, s.n, s.n_failed, s.null_value, s.corrected, s.p_value
FROM listed AS i
LEFT JOIN latents AS l
    ON l.capture = $capture AND l.hookpoint = i.hookpoint AND l.latent = i.latent
LEFT JOIN own AS o ON o.hookpoint = i.hookpoint AND o.latent = i.latent
LEFT JOIN by_metric AS s
    ON s.hookpoint = i.hookpoint
    AND s.latent = i.latent
    AND s.explainer = $explainer
    AND s.scorer = $scorer
ORDER BY
    CASE WHEN $ascending THEN s."value" ELSE -s."value" END NULLS LAST,
    CASE WHEN $ascending THEN s.ci_low ELSE -s.ci_low END NULLS LAST,
    i.hookpoint,
    i.latent
LIMIT $n_rows
