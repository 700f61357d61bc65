-- name: score/metrics
-- The metrics of a scorer whose judge calls items true or false, each with a 95 % interval.
--
-- tpr, fpr, tpr_quantile_Q, fpr_STRATUM, accuracy: as in score/shares. balanced_accuracy:
-- (tpr + 1 - fpr) / 2, interval from the two by Newcombe's hybrid of score limits (1998).
-- precision_natural, recall_natural, f1_natural, iou_natural: of activating against random
-- windows, every window as often as it stands for, so that they hold at the rate at which the
-- latent fires in the corpus; without a value where some activating windows had no chance to be
-- drawn. They are functions of a ratio of two shares, precision 1 / (1 + odds fpr / tpr), F1
-- 2 / (1 + (1 + odds fpr) / tpr), and their intervals recover variances from the limits of the
-- two (Donner and Zou 2012). auroc, auprc_natural: as in score/curves. reference_precision,
-- reference_f1: of the items as they were drawn and with 0 for an empty denominator, as tools
-- report them that know no populations; they tell nothing about the corpus. self_kappa: Cohen's
-- kappa of the items that were judged twice, its limits those of self_agreement.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: metric          VARCHAR
-- column: value           DOUBLE
-- column: ci_low          DOUBLE
-- column: ci_high         DOUBLE
-- column: n               BIGINT    items that the judge answered
-- column: n_failed        BIGINT
-- column: lower_is_better BOOLEAN
-- grain: latent, explanation, metric
WITH ratios AS (
    SELECT
        latent, explanation, role, kind, n, n_failed,
        odds * fpr / nullif(tpr, 0) AS surplus,
        ratio_low(odds * fpr, odds * fpr_low, tpr, tpr_high) AS surplus_low,
        ratio_high(odds * fpr, odds * fpr_high, tpr, tpr_low) AS surplus_high,
        tpr = 0 AND fpr > 0 AS is_precision_zero,
        (1 + odds * fpr) / nullif(tpr, 0) AS spread,
        ratio_low(1 + odds * fpr, 1 + odds * fpr_low, tpr, tpr_high) AS spread_low,
        ratio_high(1 + odds * fpr, 1 + odds * fpr_high, tpr, tpr_low) AS spread_high,
        tpr = 0 AND fpr IS NOT NULL AS is_overlap_zero,
        tpr = 0 AND fpr = 0 AND kind = 'drawn' AS is_nothing_called,
        CASE kind WHEN 'drawn' THEN 'reference_' ELSE '' END AS prefix,
        CASE kind WHEN 'natural' THEN '_natural' ELSE '' END AS suffix
    FROM contrasts
),
twice AS (
    SELECT latent, explanation,
        avg(prediction::INTEGER) * avg(again::INTEGER)
            + (1 - avg(prediction::INTEGER)) * (1 - avg(again::INTEGER)) AS chance
    FROM items
    WHERE is_judged AND again IS NOT NULL AND prediction IS NOT NULL
    GROUP BY latent, explanation
),
measured AS (
    SELECT latent, explanation, role, part AS metric, share AS "value", low AS ci_low,
        high AS ci_high, n, n_failed
    FROM shares
    WHERE part <> 'recall_natural'
    UNION ALL
    SELECT latent, explanation, role, 'recall_natural', tpr, tpr_low, tpr_high, n_true, failed_true
    FROM contrasts
    WHERE kind = 'natural'
    UNION ALL
    SELECT latent, explanation, role, 'balanced_accuracy', (tpr + 1 - fpr) / 2,
        (tpr + 1 - fpr) / 2 - sqrt((tpr - tpr_low) ** 2 + (fpr_high - fpr) ** 2) / 2,
        (tpr + 1 - fpr) / 2 + sqrt((tpr_high - tpr) ** 2 + (fpr - fpr_low) ** 2) / 2,
        n, n_failed
    FROM contrasts
    WHERE kind = 'drawn'
    UNION ALL
    SELECT latent, explanation, role, prefix || 'precision' || suffix,
        CASE WHEN is_precision_zero OR is_nothing_called THEN 0 ELSE 1 / (1 + surplus) END,
        CASE WHEN is_nothing_called THEN 0
            WHEN surplus IS NOT NULL OR is_precision_zero THEN 1 / (1 + surplus_high) END,
        CASE WHEN is_nothing_called THEN 1
            WHEN surplus IS NOT NULL OR is_precision_zero THEN 1 / (1 + surplus_low) END,
        n, n_failed
    FROM ratios
    UNION ALL
    SELECT latent, explanation, role, prefix || 'f1' || suffix,
        CASE WHEN is_overlap_zero THEN 0 ELSE 2 / (1 + spread) END,
        2 / (1 + spread_high), least(1, 2 / (1 + spread_low)), n, n_failed
    FROM ratios
    UNION ALL
    SELECT latent, explanation, role, 'iou_natural',
        CASE WHEN is_overlap_zero THEN 0 ELSE 1 / spread END,
        1 / spread_high, least(1, 1 / spread_low), n, n_failed
    FROM ratios
    WHERE kind = 'natural'
    UNION ALL
    SELECT s.latent, s.explanation, s.role, 'self_kappa',
        (s.share - t.chance) / nullif(1 - t.chance, 0),
        (s.low - t.chance) / nullif(1 - t.chance, 0),
        (s.high - t.chance) / nullif(1 - t.chance, 0), s.n, s.n_failed
    FROM shares AS s
    JOIN twice AS t USING (latent, explanation)
    WHERE s.part = 'self_agreement'
    UNION ALL
    SELECT latent, explanation, role, metric, "value", ci_low, ci_high, n, n_failed
    FROM curves
)
SELECT
    latent, explanation, role, metric, "value",
    CASE WHEN "value" IS NOT NULL THEN ci_low END AS ci_low,
    CASE WHEN "value" IS NOT NULL THEN ci_high END AS ci_high,
    n::BIGINT AS n, n_failed::BIGINT AS n_failed, metric LIKE 'fpr%' AS lower_is_better
FROM measured
ORDER BY latent, explanation, metric
