-- name: score/intruder
-- How often the judge named the intruder, with a 95 % interval; without an explanation.
--
-- accuracy: of all questions. accuracy_quantile_Q: of those about one quantile. chance: one over
-- the number of texts of a question. above_chance: (accuracy - chance) / (1 - chance), 0 for a
-- judge that guesses, 1 for one that is always right; its limits are those of the accuracy. The
-- null of the accuracy is chance, and p_value is the probability of at least as many right
-- answers by guessing, from the binomial distribution.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: metric          VARCHAR
-- column: value           DOUBLE
-- column: ci_low          DOUBLE
-- column: ci_high         DOUBLE
-- column: n               BIGINT    questions that the judge answered
-- column: n_failed        BIGINT
-- column: lower_is_better BOOLEAN
-- column: null_value      DOUBLE
-- column: p_value         DOUBLE
-- grain: latent, explanation, metric
WITH questions AS (
    SELECT latent, explanation, role, 1.0 / max((detail ->> '$.n_texts')::INTEGER) AS chance
    FROM items
    GROUP BY latent, explanation, role
),
parts AS (
    SELECT
        s.latent, s.explanation, s.role, q.chance, s.n, s.n_failed, s.share, s.low, s.high,
        round(s.share * s.n)::BIGINT AS n_right,
        CASE WHEN s.part = 'accuracy' THEN 'accuracy'
            ELSE replace(s.part, 'tpr_', 'accuracy_') END AS metric
    FROM shares AS s
    JOIN questions AS q USING (latent, explanation)
    WHERE s.part = 'accuracy' OR s.part LIKE 'tpr\_quantile\_%' ESCAPE '\'
),
guesses AS (
    SELECT latent, explanation, metric, n, n_right, chance,
        unnest(range(n_right, n + 1)) AS k
    FROM parts
    WHERE n > 0
),
tails AS (
    SELECT latent, explanation, metric,
        least(1, sum(
            exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
                + k * ln(chance) + (n - k) * ln(1 - chance))
            ORDER BY k
        )) AS p_value
    FROM guesses
    GROUP BY latent, explanation, metric
),
measured AS (
    SELECT p.latent, p.explanation, p.role, p.metric, p.share AS "value", p.low AS ci_low,
        p.high AS ci_high, p.n, p.n_failed, p.chance AS null_value, t.p_value
    FROM parts AS p
    LEFT JOIN tails AS t USING (latent, explanation, metric)
    UNION ALL
    SELECT latent, explanation, role, 'chance', chance, NULL, NULL, n, n_failed, NULL, NULL
    FROM parts
    WHERE metric = 'accuracy'
    UNION ALL
    SELECT latent, explanation, role, 'above_chance', (share - chance) / (1 - chance),
        (low - chance) / (1 - chance), (high - chance) / (1 - chance), n, n_failed, 0, NULL
    FROM parts
    WHERE metric = 'accuracy'
)
SELECT
    latent, explanation, role, metric, "value"::DOUBLE AS "value", ci_low::DOUBLE AS ci_low,
    ci_high::DOUBLE AS ci_high, n::BIGINT AS n, n_failed::BIGINT AS n_failed,
    false AS lower_is_better, null_value::DOUBLE AS null_value, p_value::DOUBLE AS p_value
FROM measured
