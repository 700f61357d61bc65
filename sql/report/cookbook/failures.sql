-- name: report/cookbook/failures
-- What failed, where and why? Explanations and judgements that are neither there nor
-- impossible, by reason.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: step      VARCHAR   explain, or the scorer
-- column: status    VARCHAR
-- column: n         BIGINT
-- column: a_reason  VARCHAR   one of them
-- grain: capture, hookpoint, step, status
WITH failed AS (
    SELECT capture, hookpoint, 'explain' AS step, status, reason
    FROM explanations
    UNION ALL
    SELECT capture, hookpoint, scorer AS step, status, reason
    FROM judgements
)
SELECT capture, hookpoint, step, status, count(*) AS n, min(reason) AS a_reason
FROM failed
WHERE status IN ('parse_failed', 'refused', 'http_error', 'timeout', 'truncated', 'budget_stopped')
GROUP BY capture, hookpoint, step, status
ORDER BY n DESC, capture, hookpoint, step, status
