-- name: report/status_explanations
-- Explanations by capture, explainer and status, earlier ones too.
-- column: capture   VARCHAR
-- column: explainer VARCHAR
-- column: status    VARCHAR
-- column: n         BIGINT
-- grain: capture, explainer, status
SELECT capture, explainer, status, count(*) AS n
FROM explanations
GROUP BY capture, explainer, status
ORDER BY capture, explainer, n DESC, status
