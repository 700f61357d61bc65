-- name: report/score_by_density
-- Quartiles of a metric over latents of similar density, in half decades: `step` s holds
-- densities from 10^(s/2) up to 10^((s+1)/2).
-- param: capture VARCHAR
-- param: metric  VARCHAR
-- column: hookpoint VARCHAR
-- column: explainer VARCHAR
-- column: scorer    VARCHAR
-- column: step      INTEGER
-- column: n         BIGINT
-- column: low       DOUBLE   first quartile
-- column: middle    DOUBLE   median
-- column: high      DOUBLE   third quartile
-- grain: hookpoint, explainer, scorer, step
WITH scored AS (
    SELECT
        s.hookpoint, s.explainer, s.scorer, s."value",
        floor(2 * log10(l.density) + 1e-9)::INTEGER AS step
    FROM newest_scores($capture) AS s
    JOIN latents AS l USING (hookpoint, latent)
    WHERE l.capture = $capture
        AND l.density > 0
        AND s.metric = $metric
        AND s."value" IS NOT NULL
)
SELECT
    hookpoint, explainer, scorer, step,
    count(*) AS n,
    quantile_cont("value", 0.25) AS low,
    quantile_cont("value", 0.5) AS middle,
    quantile_cont("value", 0.75) AS high
FROM scored
GROUP BY hookpoint, explainer, scorer, step
ORDER BY hookpoint, explainer, scorer, step
