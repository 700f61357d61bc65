-- name: score/sensitivity
-- How often a latent fires on texts that were written from an explanation.
--
-- sensitivity: share of the texts in which it does, as in score/shares: texts of one reply are not
-- independent. mean_peak: mean over the texts of the latent's largest activation, in its own unit,
-- with Student's interval from score/means.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: metric          VARCHAR
-- column: value           DOUBLE
-- column: ci_low          DOUBLE
-- column: ci_high         DOUBLE
-- column: n               BIGINT    texts that were written
-- column: n_failed        BIGINT
-- column: lower_is_better BOOLEAN
-- grain: latent, explanation, metric
WITH counted AS (
    SELECT latent, explanation, any_value(role) AS role,
        count(*) FILTER (is_judged) AS n, count(*) FILTER (has_failed) AS n_failed
    FROM items
    GROUP BY latent, explanation
),
measured AS (
    SELECT latent, explanation, role, 'sensitivity' AS metric, share AS "value", low AS ci_low,
        high AS ci_high, n, n_failed
    FROM shares
    WHERE part = 'accuracy'
    UNION ALL
    SELECT c.latent, c.explanation, c.role, 'mean_peak', m.mean,
        CASE WHEN m.variance IS NOT NULL
            THEN greatest(0, m.mean - student(m.freedom) * sqrt(m.variance)) END,
        m.mean + student(m.freedom) * sqrt(m.variance), c.n, c.n_failed
    FROM counted AS c
    LEFT JOIN means AS m ON m.latent = c.latent AND m.explanation = c.explanation AND m.truth
)
SELECT
    latent, explanation, role, metric, "value", ci_low, ci_high, n::BIGINT AS n,
    n_failed::BIGINT AS n_failed, false AS lower_is_better
FROM measured
ORDER BY latent, explanation, metric
