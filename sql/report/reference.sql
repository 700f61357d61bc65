-- name: report/reference
-- One run's figures as the tool delphi reckons them, to set beside its results: counts pooled over
-- the judged items of all latents, shares with an empty denominator 0, the frequency-weighted F1 as
-- the mean over hookpoints of each latent's F1 weighted by how often the latent fires. No interval,
-- no prevalence, no null: these do not say how far to trust a figure. All are NULL unless there are
-- true and false items.
--
-- Of each latent the items of one explanation count, the newest that was judged. False items are of
-- one kind, as they are there: the random windows of a latent where it has any, else all.
-- param: capture    VARCHAR
-- param: explainer  VARCHAR
-- param: made       VARCHAR
-- param: scorer     VARCHAR
-- param: settings   VARCHAR
-- param: hookpoints VARCHAR[]   empty takes all
-- column: n                           BIGINT   judged items
-- column: reference_balanced_accuracy DOUBLE
-- column: reference_precision         DOUBLE
-- column: reference_recall            DOUBLE
-- column: reference_f1                DOUBLE
-- column: reference_weighted_f1       DOUBLE
-- column: reference_auroc             DOUBLE   NULL unless every item has a probability
-- grain: n
WITH every AS (
    SELECT j.hookpoint, j.latent, j.explanation, j.truth, j.stratum, j.prediction,
        j.probability, e.created_at
    FROM judgements AS j
    JOIN explanations AS e
        ON e.capture = j.capture AND e.hookpoint = j.hookpoint AND e.explanation = j.explanation
    WHERE j.capture = $capture
        AND j.scorer = $scorer
        AND j.settings = $settings
        AND j.role = 'own'
        AND j.prediction IS NOT NULL
        AND j.truth IS NOT NULL
        AND e.explainer = $explainer
        AND e.settings = $made
        AND (len($hookpoints::VARCHAR[]) = 0 OR list_contains($hookpoints, j.hookpoint))
),
standing AS (
    SELECT hookpoint, latent, explanation,
        coalesce(bool_or(NOT truth AND stratum = 'random'), false) AS has_random
    FROM every
    GROUP BY hookpoint, latent, explanation
    QUALIFY row_number() OVER (
        PARTITION BY hookpoint, latent
        ORDER BY max(created_at) DESC NULLS LAST, explanation
    ) = 1
),
judged AS (
    SELECT i.hookpoint, i.latent, i.truth, i.prediction, i.probability
    FROM every AS i
    JOIN standing AS s USING (hookpoint, latent, explanation)
    WHERE i.truth OR i.stratum = 'random' OR NOT s.has_random
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
),
figures AS (
    SELECT
        t.n, t.hits + t.missed > 0 AND t.silent + t.alarms > 0 AS has_both,
        (t.hits / nullif(t.hits + t.missed, 0) + t.silent / nullif(t.silent + t.alarms, 0)) / 2
            AS balanced_accuracy,
        coalesce(t.hits / nullif(t.hits + t.alarms, 0), 0) AS "precision",
        t.hits / nullif(t.hits + t.missed, 0) AS recall,
        2 * t.hits / nullif(2 * t.hits + t.missed + t.alarms, 0) AS f1,
        (SELECT sum(f1 ORDER BY hookpoint) / count(f1) FROM by_hookpoint) AS weighted_f1,
        c.auroc
    FROM totals AS t
    CROSS JOIN curve AS c
)
SELECT
    n,
    CASE WHEN has_both THEN balanced_accuracy END AS reference_balanced_accuracy,
    CASE WHEN has_both THEN "precision" END AS reference_precision,
    CASE WHEN has_both THEN recall END AS reference_recall,
    CASE WHEN has_both THEN f1 END AS reference_f1,
    CASE WHEN has_both THEN weighted_f1 END AS reference_weighted_f1,
    CASE WHEN has_both THEN auroc END AS reference_auroc
FROM figures
