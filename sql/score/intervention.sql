-- name: score/intervention
-- How often a judge told the tokens that a latent raises from those that another one raises.
--
-- accuracy: share of the pairs, as in score/shares; a judge without a clue reaches one half.
-- above_chance: 2 accuracy - 1, with limits from the same.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: metric          VARCHAR
-- column: value           DOUBLE
-- column: ci_low          DOUBLE
-- column: ci_high         DOUBLE
-- column: n               BIGINT    pairs that the judge answered
-- column: n_failed        BIGINT
-- column: lower_is_better BOOLEAN
-- grain: latent, explanation, metric
WITH measured AS (
    SELECT latent, explanation, role, 'accuracy' AS metric, share AS "value", low AS ci_low,
        high AS ci_high, n, n_failed
    FROM shares
    WHERE part = 'accuracy'
    UNION ALL
    SELECT latent, explanation, role, 'above_chance', 2 * share - 1, 2 * low - 1, 2 * high - 1, n,
        n_failed
    FROM shares
    WHERE part = 'accuracy'
)
SELECT
    latent, explanation, role, metric, "value", ci_low, ci_high, n::BIGINT AS n,
    n_failed::BIGINT AS n_failed, false AS lower_is_better
FROM measured
ORDER BY latent, explanation, metric
