-- name: web/failures
-- What judging items came to at each hookpoint other than an answer, most frequent first.
-- param: capture VARCHAR
-- param: hookpoint VARCHAR
-- column: scorer VARCHAR
-- column: role   VARCHAR
-- column: status VARCHAR
-- column: reason VARCHAR   of one of them
-- column: n      BIGINT
-- grain: scorer, role, status
SELECT scorer, role, status, min(reason) AS reason, count(*) AS n
FROM judgements
WHERE capture = $capture AND hookpoint = $hookpoint AND status <> 'ok'
GROUP BY scorer, role, status
ORDER BY n DESC, scorer, role, status
