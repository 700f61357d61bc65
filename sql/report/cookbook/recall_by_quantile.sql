-- name: report/cookbook/recall_by_quantile
-- Do explanations cover weak activations too? The share of active windows that the judge
-- finds, from the strongest tenth (1) to the weakest.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: scorer    VARCHAR
-- column: quantile  INTEGER
-- column: n         BIGINT
-- column: recall    DOUBLE
-- grain: capture, hookpoint, scorer, quantile
SELECT
    capture, hookpoint, scorer, quantile, count(*) AS n,
    CAST(count(CASE WHEN prediction THEN 1 END) AS DOUBLE) / count(*) AS recall
FROM judgements
WHERE role = 'own' AND truth AND prediction IS NOT NULL AND quantile IS NOT NULL AND status = 'ok'
GROUP BY capture, hookpoint, scorer, quantile
ORDER BY capture, hookpoint, scorer, quantile
