-- name: score/ranking
-- The metrics of a scorer that gives its items a number and calls none of them true.
--
-- auroc, auprc_natural: as in score/curves.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: metric          VARCHAR
-- column: value           DOUBLE
-- column: ci_low          DOUBLE
-- column: ci_high         DOUBLE
-- column: n               BIGINT    items that were judged
-- column: n_failed        BIGINT
-- column: lower_is_better BOOLEAN
-- grain: latent, explanation, metric
WITH counted AS (
    SELECT latent, explanation, any_value(role) AS role,
        count(*) FILTER (is_judged) AS n, count(*) FILTER (has_failed) AS n_failed
    FROM items
    GROUP BY latent, explanation
),
wanted AS (
    SELECT latent, explanation, role, n, n_failed, unnest(['auroc', 'auprc_natural']) AS metric
    FROM counted
)
SELECT
    w.latent, w.explanation, w.role, w.metric, c."value", c.ci_low, c.ci_high,
    coalesce(c.n, w.n)::BIGINT AS n, coalesce(c.n_failed, w.n_failed)::BIGINT AS n_failed,
    false AS lower_is_better
FROM wanted AS w
LEFT JOIN curves AS c USING (latent, explanation, metric)
WHERE w.metric = 'auroc' OR c.metric IS NOT NULL
ORDER BY w.latent, w.explanation, w.metric
