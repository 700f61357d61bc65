-- name: score/example_embedding
-- How much nearer a latent's windows are to others of its own than silent ones are; there is no
-- explanation, and so chance takes the place of borrowed ones.
--
-- auroc, auprc_natural: as in score/curves; the null of the area is one half. margin: mean of the
-- activating less mean of the silent windows' values, with Welch's interval from score/means; its
-- null is zero.
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
-- column: null_value      DOUBLE
-- grain: latent, explanation, metric
WITH counted AS (
    SELECT latent, explanation, any_value(role) AS role,
        count(*) FILTER (is_judged) AS n, count(*) FILTER (has_failed) AS n_failed
    FROM items
    WHERE truth OR is_counted
    GROUP BY latent, explanation
),
wanted AS (
    SELECT latent, explanation, role, n, n_failed, unnest(['auroc', 'auprc_natural']) AS metric
    FROM counted
),
measured AS (
    SELECT w.latent, w.explanation, w.role, w.metric, c."value", c.ci_low, c.ci_high,
        coalesce(c.n, w.n) AS n, coalesce(c.n_failed, w.n_failed) AS n_failed,
        CASE w.metric WHEN 'auroc' THEN 0.5 END AS null_value
    FROM wanted AS w
    LEFT JOIN curves AS c USING (latent, explanation, metric)
    WHERE w.metric = 'auroc' OR c.metric IS NOT NULL
    UNION ALL
    SELECT c.latent, c.explanation, c.role, 'margin', t.mean - f.mean,
        t.mean - f.mean - welch(t.variance, t.freedom, f.variance, f.freedom),
        t.mean - f.mean + welch(t.variance, t.freedom, f.variance, f.freedom), c.n, c.n_failed, 0
    FROM counted AS c
    LEFT JOIN means AS t ON t.latent = c.latent AND t.explanation = c.explanation AND t.truth
    LEFT JOIN means AS f ON f.latent = c.latent AND f.explanation = c.explanation AND NOT f.truth
)
SELECT
    latent, explanation, role, metric, "value", ci_low, ci_high, n::BIGINT AS n,
    n_failed::BIGINT AS n_failed, false AS lower_is_better, null_value::DOUBLE AS null_value
FROM measured
ORDER BY latent, explanation, metric
