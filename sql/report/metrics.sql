-- name: report/metrics
-- The metrics that the scores of a capture hold, with the pairs of explainer and scorer.
-- param: capture VARCHAR
-- column: metric    VARCHAR
-- column: explainer VARCHAR
-- column: scorer    VARCHAR
-- column: n_latents BIGINT   latents with a value
-- grain: metric, explainer, scorer
SELECT metric, explainer, scorer, count(DISTINCT (hookpoint, latent)) FILTER ("value" IS NOT NULL) AS n_latents
FROM newest_scores($capture)
GROUP BY metric, explainer, scorer
ORDER BY metric, explainer, scorer
