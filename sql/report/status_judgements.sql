-- name: report/status_judgements
-- Judged items by capture, scorer, role of the explanation and status.
-- column: capture VARCHAR
-- column: scorer  VARCHAR
-- column: role    VARCHAR
-- column: status  VARCHAR
-- column: n       BIGINT
-- grain: capture, scorer, role, status
SELECT capture, scorer, role, status, count(*) AS n
FROM judgements
GROUP BY capture, scorer, role, status
ORDER BY capture, scorer, role DESC, n DESC, status
