-- name: score/unscored
-- One row without a value for every explanation that a scorer has nothing to judge for: the
-- latent has no explanation, or no examples. Only rows that `scores` does not hold like this.
-- param: capture      VARCHAR
-- param: hookpoint    VARCHAR
-- param: scorer       VARCHAR
-- param: settings     VARCHAR
-- param: metric       VARCHAR     that the rows are of
-- param: explanations VARCHAR[]
-- param: run          VARCHAR
-- param: created_at   TIMESTAMP WITH TIME ZONE
-- column: capture     VARCHAR
-- column: hookpoint   VARCHAR
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: scorer      VARCHAR
-- column: settings    VARCHAR
-- column: metric      VARCHAR
-- column: value       DOUBLE
-- column: ci_low      DOUBLE
-- column: ci_high     DOUBLE
-- column: n           BIGINT
-- column: n_failed    BIGINT
-- column: null_value  DOUBLE
-- column: corrected   DOUBLE
-- column: p_value     DOUBLE
-- column: status      VARCHAR
-- column: run         VARCHAR
-- column: created_at  TIMESTAMP WITH TIME ZONE
-- grain: explanation
WITH empty AS (
    SELECT latent, explanation,
        CASE WHEN status = 'ok' THEN 'too_few_examples' ELSE status END AS status
    FROM explanations
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND explanation IN (SELECT unnest($explanations::VARCHAR[]))
        AND explanation NOT IN (
            SELECT explanation
            FROM judgements
            WHERE capture = $capture
                AND hookpoint = $hookpoint
                AND scorer = $scorer
                AND settings = $settings
                AND role = 'own'
        )
),
held AS (
    SELECT explanation, status
    FROM scores
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND scorer = $scorer
        AND settings = $settings
        AND metric = $metric
)
SELECT
    $capture AS capture, $hookpoint AS hookpoint, empty.latent, empty.explanation,
    $scorer AS scorer, $settings AS settings, $metric AS metric,
    NULL::DOUBLE AS "value", NULL::DOUBLE AS ci_low, NULL::DOUBLE AS ci_high,
    0::BIGINT AS n, 0::BIGINT AS n_failed,
    NULL::DOUBLE AS null_value, NULL::DOUBLE AS corrected, NULL::DOUBLE AS p_value,
    empty.status, $run AS run, $created_at AS created_at
FROM empty
LEFT JOIN held USING (explanation)
WHERE held.status IS DISTINCT FROM empty.status
ORDER BY empty.latent, empty.explanation
