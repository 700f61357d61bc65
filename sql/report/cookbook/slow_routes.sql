-- name: report/cookbook/slow_routes
-- Which models answer slowly or fail? Replies by route and model, with the median time.
-- column: route         VARCHAR
-- column: model         VARCHAR
-- column: n             BIGINT
-- column: n_failed      BIGINT
-- column: median_s      DOUBLE
-- column: mean_attempts DOUBLE
-- grain: route, model
SELECT
    route, coalesce(model_served, model_requested) AS model, count(*) AS n,
    count(CASE WHEN status <> 'ok' THEN 1 END) AS n_failed,
    median(latency_s) AS median_s,
    avg(attempts) AS mean_attempts
FROM replies
GROUP BY route, coalesce(model_served, model_requested)
ORDER BY median_s DESC, route, model
