-- name: report/score_summary
-- One metric over the latents of each hookpoint, by explainer and scorer. `n_above` of the
-- `n_compared` latents that have both an interval and a null have their lower bound above it.
-- param: capture VARCHAR
-- param: metric  VARCHAR
-- column: hookpoint      VARCHAR
-- column: explainer      VARCHAR
-- column: scorer         VARCHAR
-- column: n_latents      BIGINT   latents with a value
-- column: n_without      BIGINT   latents whose score row has no value
-- column: mean           DOUBLE
-- column: mean_null      DOUBLE
-- column: mean_corrected DOUBLE
-- column: n_compared     BIGINT
-- column: n_above        BIGINT
-- column: n_items        BIGINT
-- column: n_failed       BIGINT
-- column: lowest         DOUBLE   over values and nulls
-- grain: hookpoint, explainer, scorer
SELECT
    hookpoint,
    explainer,
    scorer,
    count("value") AS n_latents,
    count(*) - count("value") AS n_without,
    avg("value") AS mean,
    avg(null_value) FILTER ("value" IS NOT NULL) AS mean_null,
    avg(corrected) AS mean_corrected,
    count(*) FILTER (ci_low IS NOT NULL AND null_value IS NOT NULL) AS n_compared,
    count(*) FILTER (ci_low > null_value) AS n_above,
    coalesce(sum(n), 0)::BIGINT AS n_items,
    coalesce(sum(n_failed), 0)::BIGINT AS n_failed,
    least(min("value"), min(null_value)) AS lowest
FROM newest_scores($capture)
WHERE metric = $metric
GROUP BY hookpoint, explainer, scorer
ORDER BY hookpoint, explainer, scorer
