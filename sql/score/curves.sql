-- name: score/curves
-- Areas under curves, where every judged item has a probability, or else a value by which to rank
-- it; ties count half. NULL where only some have one.
--
-- auroc: interval Wilson's with the smaller class' effective number of items, because
-- A (1 - A) / min(n) bounds its variance. auprc_natural: at the rate at which the latent fires,
-- the mean precision over the activating windows' own thresholds, each as often as it stands for;
-- its limits average those of each precision and add the windows' sampling variance.
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: role        VARCHAR
-- column: metric      VARCHAR   auroc or auprc_natural
-- column: value       DOUBLE
-- column: ci_low      DOUBLE
-- column: ci_high     DOUBLE
-- column: n           BIGINT
-- column: n_failed    BIGINT
-- grain: latent, explanation, metric
CREATE OR REPLACE TEMP TABLE curves AS
WITH ranked AS (
    SELECT
        latent, explanation, role, item, truth, stratum, stands_for,
        coalesce(probability, "value") AS height,
        count(height) OVER (PARTITION BY latent, explanation)
            = count(*) OVER (PARTITION BY latent, explanation) AS is_whole
    FROM items
    WHERE is_judged AND is_counted AND truth IS NOT NULL
    QUALIFY count(height) OVER (PARTITION BY latent, explanation) > 0
),
ordered AS (
    SELECT
        latent, explanation, truth, is_whole,
        rank() OVER (PARTITION BY latent, explanation ORDER BY height)
            + (count(*) OVER (PARTITION BY latent, explanation, height) - 1) / 2.0 AS place
    FROM ranked
),
areas AS (
    SELECT
        latent, explanation,
        CASE WHEN bool_and(is_whole) THEN (
            sum(place) FILTER (truth)
            - count(*) FILTER (truth) * (count(*) FILTER (truth) + 1) / 2.0
        ) / nullif(count(*) FILTER (truth) * count(*) FILTER (NOT truth), 0) END AS area
    FROM ordered
    GROUP BY latent, explanation
),
-- At each height of a window: the activating and the random windows that are there.
thresholds AS (
    SELECT latent, explanation, height, bool_and(is_whole) AS is_whole,
        coalesce(sum(stands_for ORDER BY item) FILTER (truth), 0) AS active,
        count(*) FILTER (NOT truth) AS alarms
    FROM ranked
    WHERE (truth AND stratum = 'activating') OR (NOT truth AND stratum = 'random')
    GROUP BY latent, explanation, height
),
reached AS (
    SELECT
        latent, explanation, height, is_whole, active,
        active / sum(active) OVER whole AS step,
        sum(active) OVER so_far / sum(active) OVER whole AS tpr,
        sum(alarms) OVER so_far / nullif(sum(alarms) OVER whole, 0) AS fpr
    FROM thresholds
    WINDOW whole AS (
        PARTITION BY latent, explanation ORDER BY height DESC
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ),
    so_far AS (PARTITION BY latent, explanation ORDER BY height DESC)
),
bounded AS (
    SELECT
        r.latent, r.explanation, r.height, r.is_whole, r.step, p.effective_true,
        1 / (1 + p.odds * r.fpr / r.tpr) AS "precision",
        1 / (1 + ratio_high(
            p.odds * r.fpr,
            p.odds * within_high(r.fpr * p.effective_false, p.effective_false, p.is_sequential),
            r.tpr,
            within_low(r.tpr * p.effective_true, p.effective_true, p.is_sequential)
        )) AS low,
        1 / (1 + ratio_low(
            p.odds * r.fpr,
            p.odds * within_low(r.fpr * p.effective_false, p.effective_false, p.is_sequential),
            r.tpr,
            within_high(r.tpr * p.effective_true, p.effective_true, p.is_sequential)
        )) AS high
    FROM reached AS r
    JOIN contrasts AS p USING (latent, explanation)
    WHERE p.kind = 'natural' AND r.active > 0
),
averaged AS (
    SELECT
        latent, explanation,
        CASE WHEN bool_and(is_whole) THEN sum(step * "precision" ORDER BY height) END AS area,
        sum(step * low ORDER BY height) AS low,
        sum(step * high ORDER BY height) AS high,
        greatest(0, sum(step * "precision" ** 2 ORDER BY height)
            - sum(step * "precision" ORDER BY height) ** 2) / any_value(effective_true) AS variance
    FROM bounded
    GROUP BY latent, explanation
)
SELECT
    p.latent, p.explanation, p.role, 'auroc' AS metric, a.area AS "value",
    within_low(a.area * least(p.effective_true, p.effective_false),
        least(p.effective_true, p.effective_false), p.is_sequential) AS ci_low,
    within_high(a.area * least(p.effective_true, p.effective_false),
        least(p.effective_true, p.effective_false), p.is_sequential) AS ci_high,
    p.n, p.n_failed
FROM areas AS a
JOIN contrasts AS p USING (latent, explanation)
WHERE p.kind = 'drawn'
UNION ALL
SELECT
    p.latent, p.explanation, p.role, 'auprc_natural', a.area,
    CASE WHEN a.area IS NOT NULL
        THEN greatest(0, a.area - sqrt((a.area - a.low) ** 2 + 3.841458820694124 * a.variance)) END,
    CASE WHEN a.area IS NOT NULL
        THEN least(1, a.area + sqrt((a.high - a.area) ** 2 + 3.841458820694124 * a.variance)) END,
    p.n, p.n_failed
FROM averaged AS a
JOIN contrasts AS p USING (latent, explanation)
WHERE p.kind = 'natural'
