-- name: report/explanation_counts
-- Explanations that stand, by hookpoint, explainer and status.
-- param: capture VARCHAR
-- column: hookpoint VARCHAR
-- column: explainer VARCHAR
-- column: status    VARCHAR
-- column: n         BIGINT
-- grain: hookpoint, explainer, status
SELECT hookpoint, explainer, status, count(*) AS n
FROM newest_explanations($capture)
GROUP BY hookpoint, explainer, status
ORDER BY hookpoint, explainer, n DESC, status
