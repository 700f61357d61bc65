-- name: report/cookbook/scorers_that_disagree
-- On which explanations do two scorers differ most? One may test what the other cannot see.
-- column: capture     VARCHAR
-- column: hookpoint   VARCHAR
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: scorer_a    VARCHAR
-- column: scorer_b    VARCHAR
-- column: value_a     DOUBLE
-- column: value_b     DOUBLE
-- grain: capture, hookpoint, explanation, scorer_a, scorer_b
WITH scored AS (
    SELECT
        capture, hookpoint, latent, explanation, scorer, "value", ci_low, corrected, p_value
    FROM scores
    WHERE metric = 'balanced_accuracy' AND "value" IS NOT NULL
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, explanation, scorer ORDER BY created_at DESC, settings
    ) = 1
)
SELECT
    a.capture, a.hookpoint, a.latent, a.explanation, a.scorer AS scorer_a, b.scorer AS scorer_b,
    a."value" AS value_a, b."value" AS value_b
FROM scored AS a
JOIN scored AS b
    ON a.capture = b.capture AND a.hookpoint = b.hookpoint AND a.explanation = b.explanation
WHERE a.scorer < b.scorer
ORDER BY
    abs(a."value" - b."value") DESC, a.capture, a.hookpoint, a.explanation, scorer_a, scorer_b
LIMIT 50
