-- name: report/reference
-- One run's figures as the tool delphi reckons them, to set beside its results: counts pooled over
-- the judged items of all latents and hookpoints, shares with an empty denominator 0, the
-- frequency-weighted F1 as the mean over hookpoints of each latent's F1 weighted by how often the
-- latent fires. No interval, no prevalence, no null: these do not say how far to trust a figure.
-- param: capture   VARCHAR
-- param: explainer VARCHAR
-- param: made      VARCHAR
-- param: scorer    VARCHAR
-- param: settings  VARCHAR
-- column: n                           BIGINT   judged items
-- column: reference_balanced_accuracy DOUBLE
-- column: reference_precision         DOUBLE
-- column: reference_recall            DOUBLE
-- column: reference_f1                DOUBLE
-- column: reference_weighted_f1       DOUBLE
-- column: reference_auroc             DOUBLE   NULL unless every item has a probability
-- grain: n
WITH judged AS (
    SELECT j.hookpoint, j.latent, j.truth, j.prediction, j.probability
    FROM judgements AS j
    JOIN explanations AS e
        ON e.capture = j.capture AND e.hookpoint = j.hookpoint AND e.explanation = j.explanation
    WHERE j.capture = $capture
        AND j.scorer = $scorer
        AND j.settings = $settings
        AND j.role = 'own'
        AND j.prediction IS NOT NULL
        AND e.explainer = $explainer
        AND e.settings = $made
),
totals AS (
    SELECT
        count(*) AS n,
        count(*) FILTER (truth AND prediction) AS hits,
        count(*) FILTER (truth AND NOT prediction) AS missed,
        count(*) FILTER (NOT truth AND prediction) AS alarms,
        count(*) FILTER (NOT truth AND NOT prediction) AS silent
    FROM judged
),
each AS (
    SELECT j.hookpoint, j.latent, any_value(l.n_activations)::DOUBLE AS weight,
        coalesce(2 * count(*) FILTER (truth AND prediction) / nullif(
            count(*) FILTER (truth) + count(*) FILTER (prediction), 0), 0) AS f1
    FROM judged AS j
    JOIN latents AS l
        ON l.capture = $capture AND l.hookpoint = j.hookpoint AND l.latent = j.latent
    GROUP BY j.hookpoint, j.latent
),
by_hookpoint AS (
    SELECT hookpoint,
        sum(f1 * weight ORDER BY latent) / nullif(sum(weight ORDER BY latent), 0) AS f1
    FROM each
    GROUP BY hookpoint
),
ordered AS (
    SELECT truth, probability,
        rank() OVER (ORDER BY probability)
            + (count(*) OVER (PARTITION BY probability) - 1) / 2.0 AS place
    FROM judged
),
curve AS (
    SELECT CASE WHEN count(probability) = count(*) THEN
        (sum(place) FILTER (truth) - count(*) FILTER (truth) * (count(*) FILTER (truth) + 1) / 2.0)
            / nullif(count(*) FILTER (truth) * count(*) FILTER (NOT truth), 0) END AS auroc
    FROM ordered
)
SELECT
    t.n,
    (coalesce(t.hits / nullif(t.hits + t.missed, 0), 0)
        + coalesce(t.silent / nullif(t.silent + t.alarms, 0), 0)) / 2 AS reference_balanced_accuracy,
    coalesce(t.hits / nullif(t.hits + t.alarms, 0), 0) AS reference_precision,
    coalesce(t.hits / nullif(t.hits + t.missed, 0), 0) AS reference_recall,
    coalesce(2 * t.hits / nullif(2 * t.hits + t.missed + t.alarms, 0), 0) AS reference_f1,
    (SELECT sum(f1 ORDER BY hookpoint) / count(f1) FROM by_hookpoint) AS reference_weighted_f1,
    c.auroc AS reference_auroc
FROM totals AS t
CROSS JOIN curve AS c
