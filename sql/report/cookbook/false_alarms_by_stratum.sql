-- name: report/cookbook/false_alarms_by_stratum
-- Which kinds of silent text are taken for active ones? The share by what they were drawn
-- from, for an explanation of the latent and for a borrowed one.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: scorer    VARCHAR
-- column: stratum   VARCHAR
-- column: role      VARCHAR   own or borrowed
-- column: n         BIGINT
-- column: share     DOUBLE
-- grain: capture, hookpoint, scorer, stratum, role
SELECT
    capture, hookpoint, scorer, stratum, role, count(*) AS n,
    CAST(count(CASE WHEN prediction THEN 1 END) AS DOUBLE) / count(*) AS share
FROM judgements
WHERE role IN ('own', 'borrowed') AND NOT truth AND prediction IS NOT NULL AND status = 'ok'
GROUP BY capture, hookpoint, scorer, stratum, role
ORDER BY capture, hookpoint, scorer, stratum, role DESC
