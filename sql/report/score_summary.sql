-- name: report/score_summary
-- One metric over the latents of each hookpoint, by explainer and scorer. `n_above` of the
-- `n_compared` latents that have both an interval and a null have their lower bound above it;
-- `n_found` of the `n_ranked` that have a p value stand above the null at a false discovery rate of
-- 5 %.
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
-- column: n_ranked       BIGINT
-- column: n_found        BIGINT
-- column: n_items        BIGINT
-- column: n_failed       BIGINT
-- column: n_marked       BIGINT   latents of which too many items failed
-- column: lowest         DOUBLE   over values and nulls
-- column: highest        DOUBLE
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
    count(p_value) AS n_ranked,
    count(*) FILTER (q_value <= 0.05) AS n_found,
    coalesce(sum(n), 0)::BIGINT AS n_items,
    coalesce(sum(n_failed), 0)::BIGINT AS n_failed,
    count(*) FILTER (status = 'many_failed') AS n_marked,
    least(min("value"), min(null_value)) AS lowest,
    greatest(max("value"), max(null_value)) AS highest
FROM newest_scores($capture) AS s
LEFT JOIN (
    SELECT hookpoint, explanation, scorer, q_value FROM q_values($capture, $metric)
) AS q USING (hookpoint, explanation, scorer)
WHERE metric = $metric
GROUP BY hookpoint, explainer, scorer
ORDER BY hookpoint, explainer, scorer
