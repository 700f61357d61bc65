-- name: report/score_values
-- How many latents have each value of a metric, to four decimals: all that a bootstrap over
-- latents needs, in at most some ten thousand rows however many latents there are.
-- param: capture VARCHAR
-- param: metric  VARCHAR
-- column: hookpoint VARCHAR
-- column: explainer VARCHAR
-- column: scorer    VARCHAR
-- column: value     DOUBLE
-- column: n         BIGINT
-- grain: hookpoint, explainer, scorer, value
SELECT hookpoint, explainer, scorer, round("value", 4) AS "value", count(*) AS n
FROM newest_scores($capture)
WHERE metric = $metric AND "value" IS NOT NULL
GROUP BY hookpoint, explainer, scorer, round("value", 4)
ORDER BY hookpoint, explainer, scorer, "value"
