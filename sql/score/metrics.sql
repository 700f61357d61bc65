-- name: score/metrics
-- Every metric of a scorer's judgements with its 95 % interval, its null and its place in the
-- pooled null. Rows that `scores` already holds like this are left out.
--
-- tpr, fpr: shares of the true and of the false items that were called true, Wilson intervals;
-- tpr_quantile_Q and fpr_STRATUM the same within one quantile or stratum. balanced_accuracy:
-- (tpr + 1 - fpr) / 2, interval from the two by variance estimates recovery (Zou and Donner
-- 2008). accuracy: Wilson. auroc: where every judged item has a probability, ties count half;
-- Wilson with the smaller class as n, because A (1 - A) / min(n) bounds its variance.
-- precision_natural, recall_natural, f1_natural, iou_natural: of activating against random
-- windows, every cell (quantile, or the random stratum) weighted by its population over the items
-- judged in it, so that they hold at the rate at which the latent fires in the corpus. The
-- recall's interval is Wilson with Kish's effective n, which ignores what stratification gains;
-- the others are functions of a ratio of two independent shares, interval by Donner and Zou 2012.
--
-- null_value: mean of the metric over the borrowed explanations judged on the same items;
-- corrected: (s - s0) / (1 - s0), not for fpr. p_value (only with $pooled): rank of the own value
-- among the values of all borrowed explanations given here that were made the same way, ties
-- counted against it, (1 + those as good) / (1 + all): exact over latents if an explanation says
-- no more about its own latent than about another. Without $pooled the p_value held is kept.
--
-- Failed items are in n_failed, never in n; items that do not apply are in neither.
-- param: capture    VARCHAR
-- param: hookpoint  VARCHAR
-- param: scorer     VARCHAR
-- param: settings   VARCHAR
-- param: latents    INTEGER[]   NULL takes all of the hookpoint
-- param: pooled     BOOLEAN
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
WITH judged AS (
    SELECT
        latent, explanation, role, truth, prediction, probability, stratum, quantile, population,
        status, status = 'ok' AND prediction IS NOT NULL AS is_judged,
        status NOT IN ('ok', 'not_applicable') AS has_failed
    FROM judgements
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND scorer = $scorer
        AND settings = $settings
        AND ($latents::INTEGER[] IS NULL OR latent IN (SELECT unnest($latents::INTEGER[])))
),
cells AS (
    SELECT
        latent, explanation, role, truth, stratum, quantile,
        max(population)::DOUBLE AS population,
        count(*) FILTER (is_judged) AS n,
        count(*) FILTER (is_judged AND prediction) AS called,
        count(*) FILTER (has_failed) AS n_failed
    FROM judged
    GROUP BY latent, explanation, role, truth, stratum, quantile
),
failures AS (
    SELECT latent, explanation, status
    FROM judged
    WHERE has_failed
    GROUP BY latent, explanation, status
    QUALIFY row_number() OVER (
        PARTITION BY latent, explanation ORDER BY count(*) DESC, status
    ) = 1
),
totals AS (
    SELECT
        latent, explanation, role,
        coalesce(sum(n) FILTER (truth), 0)::BIGINT AS n_true,
        coalesce(sum(called) FILTER (truth), 0)::BIGINT AS hits,
        coalesce(sum(n_failed) FILTER (truth), 0)::BIGINT AS failed_true,
        coalesce(sum(n) FILTER (NOT truth), 0)::BIGINT AS n_false,
        coalesce(sum(called) FILTER (NOT truth), 0)::BIGINT AS alarms,
        coalesce(sum(n_failed) FILTER (NOT truth), 0)::BIGINT AS failed_false,
        bool_or(stratum = 'random') AS has_random,
        sum(population) FILTER (stratum = 'activating' AND truth) AS population_active,
        sum(population) FILTER (stratum = 'random') AS population_random,
        sum(population * called / n ORDER BY quantile)
            FILTER (stratum = 'activating' AND truth AND n > 0)
            / nullif(sum(population) FILTER (stratum = 'activating' AND truth AND n > 0), 0)
            AS recall,
        sum(population ORDER BY quantile) FILTER (stratum = 'activating' AND truth AND n > 0) ** 2
            / nullif(sum(population ** 2 / n ORDER BY quantile)
                FILTER (stratum = 'activating' AND truth AND n > 0), 0)
            AS effective,
        coalesce(sum(n) FILTER (stratum = 'random'), 0)::BIGINT AS n_random,
        coalesce(sum(called) FILTER (stratum = 'random'), 0)::BIGINT AS alarms_random,
        coalesce(sum(n_failed) FILTER (stratum = 'random'), 0)::BIGINT AS failed_random
    FROM cells
    GROUP BY latent, explanation, role
),
shares AS (
    SELECT
        *,
        hits / nullif(n_true, 0) AS tpr,
        wilson_low(hits, n_true) AS tpr_low,
        wilson_high(hits, n_true) AS tpr_high,
        alarms / nullif(n_false, 0) AS fpr,
        wilson_low(alarms, n_false) AS fpr_low,
        wilson_high(alarms, n_false) AS fpr_high,
        wilson_low(recall * effective, effective) AS recall_low,
        wilson_high(recall * effective, effective) AS recall_high,
        population_random / nullif(population_active, 0) AS odds,
        alarms_random / nullif(n_random, 0) AS noise,
        wilson_low(alarms_random, n_random) AS noise_low,
        wilson_high(alarms_random, n_random) AS noise_high
    FROM totals
),
natural_ratios AS (
    SELECT
        latent, explanation, role, n_true + n_random AS n, failed_true + failed_random AS n_failed,
        recall, recall_low, recall_high, n_true, failed_true,
        odds * noise / nullif(recall, 0) AS surplus,
        ratio_low(odds * noise, odds * noise_low, recall, recall_high) AS surplus_low,
        ratio_high(odds * noise, odds * noise_high, recall, recall_low) AS surplus_high,
        recall = 0 AND noise > 0 AS is_precision_zero,
        (1 + odds * noise) / nullif(recall, 0) AS spread,
        ratio_low(1 + odds * noise, 1 + odds * noise_low, recall, recall_high) AS spread_low,
        ratio_high(1 + odds * noise, 1 + odds * noise_high, recall, recall_low) AS spread_high,
        recall = 0 AND noise IS NOT NULL AS is_overlap_zero
    FROM shares
    WHERE has_random AND odds IS NOT NULL
),
ordered AS (
    SELECT
        latent, explanation, role, truth, probability,
        rank() OVER (PARTITION BY latent, explanation ORDER BY probability)
            + (count(*) OVER (PARTITION BY latent, explanation, probability) - 1) / 2.0 AS place
    FROM judged
    WHERE is_judged
),
curves AS (
    SELECT
        latent, explanation, role, count(*) AS n,
        (sum(place) FILTER (truth) - count(*) FILTER (truth) * (count(*) FILTER (truth) + 1) / 2.0)
            / nullif(count(*) FILTER (truth) * count(*) FILTER (NOT truth), 0) AS area,
        least(count(*) FILTER (truth), count(*) FILTER (NOT truth)) AS smaller
    FROM ordered
    GROUP BY latent, explanation, role
    HAVING count(probability) = count(*)
),
measured AS (
    SELECT latent, explanation, role, 'tpr' AS metric, tpr AS "value", tpr_low AS ci_low,
        tpr_high AS ci_high, n_true AS n, failed_true AS n_failed
    FROM shares
    UNION ALL
    SELECT latent, explanation, role, 'fpr', fpr, fpr_low, fpr_high, n_false, failed_false
    FROM shares
    UNION ALL
    SELECT latent, explanation, role, 'balanced_accuracy', (tpr + 1 - fpr) / 2,
        (tpr + 1 - fpr) / 2 - sqrt((tpr - tpr_low) ** 2 + (fpr_high - fpr) ** 2) / 2,
        (tpr + 1 - fpr) / 2 + sqrt((tpr_high - tpr) ** 2 + (fpr - fpr_low) ** 2) / 2,
        n_true + n_false, failed_true + failed_false
    FROM shares
    UNION ALL
    SELECT latent, explanation, role, 'accuracy',
        (hits + n_false - alarms) / nullif(n_true + n_false, 0),
        wilson_low(hits + n_false - alarms, n_true + n_false),
        wilson_high(hits + n_false - alarms, n_true + n_false),
        n_true + n_false, failed_true + failed_false
    FROM shares
    UNION ALL
    SELECT latent, explanation, role, 'recall_natural', recall, recall_low, recall_high, n_true,
        failed_true
    FROM natural_ratios
    UNION ALL
    SELECT latent, explanation, role, 'precision_natural',
        CASE WHEN is_precision_zero THEN 0 ELSE 1 / (1 + surplus) END,
        CASE WHEN surplus IS NOT NULL OR is_precision_zero THEN 1 / (1 + surplus_high) END,
        CASE WHEN surplus IS NOT NULL OR is_precision_zero THEN 1 / (1 + surplus_low) END,
        n, n_failed
    FROM natural_ratios
    UNION ALL
    SELECT latent, explanation, role, 'f1_natural',
        CASE WHEN is_overlap_zero THEN 0 ELSE 2 / (1 + spread) END,
        2 / (1 + spread_high), least(1, 2 / (1 + spread_low)), n, n_failed
    FROM natural_ratios
    UNION ALL
    SELECT latent, explanation, role, 'iou_natural',
        CASE WHEN is_overlap_zero THEN 0 ELSE 1 / spread END,
        1 / spread_high, least(1, 1 / spread_low), n, n_failed
    FROM natural_ratios
    UNION ALL
    SELECT c.latent, c.explanation, c.role, 'auroc', c.area,
        wilson_low(c.area * c.smaller, c.smaller), wilson_high(c.area * c.smaller, c.smaller),
        c.n, t.failed_true + t.failed_false
    FROM curves AS c
    JOIN totals AS t USING (latent, explanation, role)
    UNION ALL
    SELECT latent, explanation, role, 'tpr_quantile_' || quantile, called / nullif(n, 0),
        wilson_low(called, n), wilson_high(called, n), n, n_failed
    FROM cells
    WHERE truth AND quantile IS NOT NULL
    UNION ALL
    SELECT latent, explanation, role, 'fpr_' || stratum, called / nullif(n, 0),
        wilson_low(called, n), wilson_high(called, n), n, n_failed
    FROM cells
    WHERE NOT truth AND stratum <> 'activating'
),
series AS (
    SELECT
        m.latent, m.explanation, m.role, m.metric, m."value", m.ci_low, m.ci_high, m.n, m.n_failed,
        e.explainer, e.settings AS made, e.sample,
        CASE WHEN m.metric LIKE 'fpr%' THEN -m."value" ELSE m."value" END AS goodness
    FROM measured AS m
    JOIN explanations AS e
        ON e.capture = $capture AND e.hookpoint = $hookpoint AND e.explanation = m.explanation
),
nulls AS (
    SELECT latent, explainer, made, sample, metric,
        sum("value" ORDER BY explanation) / count("value") AS null_value
    FROM series
    WHERE role = 'borrowed' AND "value" IS NOT NULL
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
    WHERE "value" IS NOT NULL
),
held AS (
    SELECT explanation, metric, "value", ci_low, ci_high, n, n_failed, null_value, corrected,
        p_value, status
    FROM scores
    WHERE capture = $capture AND hookpoint = $hookpoint AND scorer = $scorer AND settings = $settings
),
fresh AS (
    SELECT
        s.latent, s.explanation, s.metric, s."value", s.ci_low, s.ci_high, s.n::BIGINT AS n,
        s.n_failed::BIGINT AS n_failed, nulls.null_value,
        CASE WHEN s.metric NOT LIKE 'fpr%'
            THEN (s."value" - nulls.null_value) / nullif(1 - nulls.null_value, 0) END AS corrected,
        CASE WHEN NOT $pooled THEN held.p_value
            WHEN pool.n_pool > 0 THEN (1 + pool.n_as_good) / (1 + pool.n_pool) END AS p_value,
        CASE WHEN s."value" IS NOT NULL THEN 'ok'
            ELSE coalesce(failures.status, 'not_applicable') END AS status
    FROM series AS s
    LEFT JOIN nulls USING (latent, explainer, made, sample, metric)
    LEFT JOIN pool USING (latent, explanation, role, metric)
    LEFT JOIN failures USING (latent, explanation)
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
