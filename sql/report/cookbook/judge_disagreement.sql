-- name: report/cookbook/judge_disagreement
-- How often does a judge disagree with itself? Items that were judged a second time, by
-- scorer.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: scorer    VARCHAR
-- column: n         BIGINT   items judged twice
-- column: n_changed BIGINT
-- column: share     DOUBLE
-- grain: capture, hookpoint, scorer
WITH pairs AS (
    SELECT o.capture, o.hookpoint, o.scorer, o.prediction AS first_time, r.prediction AS second_time
    FROM judgements AS o
    JOIN judgements AS r
        ON o.capture = r.capture AND o.hookpoint = r.hookpoint AND o.latent = r.latent
            AND o.explanation = r.explanation AND o.scorer = r.scorer
            AND o.settings = r.settings AND o.item = -1 - r.item
    WHERE o.role = 'own' AND r.role = 'repeat' AND o.status = 'ok' AND r.status = 'ok'
)
SELECT
    capture, hookpoint, scorer, count(*) AS n,
    count(CASE WHEN first_time <> second_time THEN 1 END) AS n_changed,
    CAST(count(CASE WHEN first_time <> second_time THEN 1 END) AS DOUBLE) / count(*) AS share
FROM pairs
GROUP BY capture, hookpoint, scorer
ORDER BY capture, hookpoint, scorer
