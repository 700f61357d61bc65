-- name: score/scores
-- What `measured` holds of own explanations, and `failed` of why items failed, as rows of `scores`,
-- each with its null and its place in the pooled null. Rows that `scores` already holds like this
-- are left out.
--
-- null_value: mean of the metric over the borrowed explanations judged on the same items;
-- corrected: (s - s0) / (1 - s0), of metrics that are better when higher. p_value (only with
-- $pooled): rank of the own value among the values of all borrowed explanations given here that
-- were made the same way, ties counted against it, (1 + those as good) / (1 + all): exact over
-- latents if an explanation says no more about its own latent than about another. Without $pooled
-- the p_value held is kept. Where `measured` has a null_value or a p_value, those stand.
--
-- A value of which more than $max_failed of the items failed has the status many_failed, and is in
-- no null; where there is no value the status is that of most failures.
-- param: capture    VARCHAR
-- param: hookpoint  VARCHAR
-- param: scorer     VARCHAR
-- param: settings   VARCHAR
-- param: pooled     BOOLEAN
-- param: max_failed DOUBLE
-- param: run        VARCHAR
-- param: created_at TIMESTAMP WITH TIME ZONE
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
-- grain: explanation, metric
WITH series AS (
    SELECT
        m.latent, m.explanation, m.role, m.metric, m."value", m.ci_low, m.ci_high, m.n, m.n_failed,
        m.lower_is_better, m.null_value, m.p_value, e.explainer, e.settings AS made, e.sample,
        CASE WHEN m.lower_is_better THEN -m."value" ELSE m."value" END AS goodness,
        m.n_failed > $max_failed * (m.n + m.n_failed) AS has_many_failed
    FROM measured AS m
    JOIN explanations AS e
        ON e.capture = $capture AND e.hookpoint = $hookpoint AND e.explanation = m.explanation
),
nulls AS (
    SELECT latent, explainer, made, sample, metric,
        sum("value" ORDER BY explanation) / count("value") AS null_value
    FROM series
    WHERE role = 'borrowed' AND "value" IS NOT NULL AND NOT has_many_failed
    GROUP BY latent, explainer, made, sample, metric
),
-- The default frame ends with the last peer, so that equal values count as at least as good.
pool AS (
    SELECT latent, explanation, role, metric,
        count(*) FILTER (role = 'borrowed') OVER (
            PARTITION BY explainer, made, sample, metric ORDER BY goodness DESC
        ) AS n_as_good,
        count(*) FILTER (role = 'borrowed') OVER (
            PARTITION BY explainer, made, sample, metric
        ) AS n_pool
    FROM series
    WHERE "value" IS NOT NULL AND (role = 'own' OR NOT has_many_failed)
),
held AS (
    SELECT explanation, metric, "value", ci_low, ci_high, n, n_failed, null_value, corrected,
        p_value, status
    FROM scores
    WHERE capture = $capture AND hookpoint = $hookpoint AND scorer = $scorer AND settings = $settings
),
fresh AS (
    SELECT
        s.latent, s.explanation, s.metric, s."value", s.ci_low, s.ci_high, s.n, s.n_failed,
        coalesce(s.null_value, nulls.null_value) AS null_value,
        CASE WHEN NOT s.lower_is_better AND s.metric NOT IN ('margin', 'mean_peak', 'nats_saved')
            THEN (s."value" - coalesce(s.null_value, nulls.null_value))
                / nullif(1 - coalesce(s.null_value, nulls.null_value), 0) END AS corrected,
        CASE WHEN s.p_value IS NOT NULL THEN s.p_value
            WHEN NOT $pooled THEN held.p_value
            WHEN pool.n_pool > 0 THEN (1 + pool.n_as_good) / (1 + pool.n_pool) END AS p_value,
        CASE WHEN s."value" IS NULL THEN coalesce(failed.status, 'not_applicable')
            WHEN s.has_many_failed THEN 'many_failed'
            ELSE 'ok' END AS status
    FROM series AS s
    LEFT JOIN nulls USING (latent, explainer, made, sample, metric)
    LEFT JOIN pool USING (latent, explanation, role, metric)
    LEFT JOIN failed USING (latent, explanation)
    LEFT JOIN held USING (explanation, metric)
    WHERE s.role = 'own'
)
SELECT
    $capture AS capture, $hookpoint AS hookpoint, fresh.latent, fresh.explanation,
    $scorer AS scorer, $settings AS settings, fresh.metric, fresh."value",
    fresh.ci_low, fresh.ci_high, fresh.n, fresh.n_failed, fresh.null_value, fresh.corrected,
    fresh.p_value, fresh.status, $run AS run, $created_at AS created_at
FROM fresh
LEFT JOIN held USING (explanation, metric)
WHERE held.metric IS NULL
    OR fresh."value" IS DISTINCT FROM held."value"
    OR fresh.ci_low IS DISTINCT FROM held.ci_low
    OR fresh.ci_high IS DISTINCT FROM held.ci_high
    OR fresh.n IS DISTINCT FROM held.n
    OR fresh.n_failed IS DISTINCT FROM held.n_failed
    OR fresh.null_value IS DISTINCT FROM held.null_value
    OR fresh.corrected IS DISTINCT FROM held.corrected
    OR fresh.p_value IS DISTINCT FROM held.p_value
    OR fresh.status IS DISTINCT FROM held.status
ORDER BY fresh.latent, fresh.explanation, fresh.metric
