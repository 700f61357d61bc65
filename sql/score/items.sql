-- name: score/items
-- The items that a scorer judged for some latents, of own and borrowed explanations, as every
-- metric counts them. What was judged again, to see whether the judge agrees with itself, is no item
-- of its own: `again` is what was said the second time, has_failed_again that nothing was.
--
-- is_counted: true items and random windows, which figures over several strata are made of, so that
-- they do not depend on how many hard negatives were asked for; without random windows all items.
-- is_judged: the judge answered. has_failed: it was asked and did not; items that do not apply, or
-- were left out because the interval was narrow enough, are neither. stands_for: how many windows
-- of the corpus an item speaks for. That is the example's weight, one over its chance to be drawn;
-- where no example of a latent has one, the population of its quantile or stratum in equal shares;
-- NULL where it had no chance of its own (`top`, negatives chosen for being hard). Judged items
-- also stand for the others of their quantile or stratum, in proportion.
-- param: capture       VARCHAR
-- param: hookpoint     VARCHAR
-- param: scorer        VARCHAR
-- param: settings      VARCHAR
-- param: latents       INTEGER[]
-- param: is_natural    BOOLEAN     whether the items are windows as they are
-- param: is_sequential BOOLEAN     whether judging stopped where an interval was narrow enough
-- column: latent           INTEGER
-- column: explanation      VARCHAR
-- column: role             VARCHAR
-- column: explained_latent INTEGER
-- column: sample           VARCHAR    of the explanation
-- column: item             INTEGER
-- column: example          INTEGER
-- column: document         BIGINT
-- column: stratum          VARCHAR
-- column: quantile         INTEGER
-- column: population       BIGINT
-- column: call             INTEGER
-- column: truth            BOOLEAN
-- column: prediction       BOOLEAN
-- column: probability      DOUBLE
-- column: value            DOUBLE
-- column: values           FLOAT[]
-- column: detail           VARCHAR
-- column: status           VARCHAR
-- column: is_judged        BOOLEAN
-- column: has_failed       BOOLEAN
-- column: is_counted       BOOLEAN
-- column: again            BOOLEAN
-- column: has_failed_again BOOLEAN   NULL if it was not judged again
-- column: stands_for       DOUBLE
-- column: is_natural       BOOLEAN
-- column: is_sequential    BOOLEAN
-- grain: latent, explanation, item
CREATE OR REPLACE TEMP TABLE items AS
WITH mine AS (
    SELECT
        latent, explanation, role, explained_latent, item, example, document, stratum, quantile,
        population, weight, call, truth, prediction, probability, "value", "values", detail, status
    FROM judgements
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND scorer = $scorer
        AND settings = $settings
        AND latent IN (SELECT unnest($latents::INTEGER[]))
),
repeated AS (
    SELECT latent, explanation, -1 - item AS item, prediction AS again,
        status NOT IN ('ok', 'not_applicable') AS has_failed_again
    FROM mine
    WHERE role = 'repeat' AND status <> 'stopped_early'
),
placed AS (
    SELECT
        m.*, e.sample, r.again, r.has_failed_again,
        m.status = 'ok' AS is_judged,
        m.status NOT IN ('ok', 'not_applicable', 'stopped_early') AS has_failed,
        coalesce(m.truth, true) OR m.stratum = 'random'
            OR NOT coalesce(
                bool_or(
                    NOT m.truth AND m.stratum = 'random' AND m.status <> 'stopped_early'
                ) OVER (
                    PARTITION BY m.latent, m.explanation
                ),
                false
            ) AS is_counted,
        count(m.weight) OVER (PARTITION BY m.latent, m.explanation) = 0 AS lacks_weights,
        count(*) OVER (
            PARTITION BY m.latent, m.explanation, m.truth, m.stratum, m.quantile
        ) AS n_alike
    FROM mine AS m
    LEFT JOIN repeated AS r USING (latent, explanation, item)
    LEFT JOIN explanations AS e
        ON e.capture = $capture AND e.hookpoint = $hookpoint AND e.explanation = m.explanation
    WHERE m.role <> 'repeat'
),
weighed AS (
    SELECT
        * EXCLUDE (weight),
        CASE WHEN lacks_weights THEN population::DOUBLE / n_alike ELSE weight END AS weight
    FROM placed
)
SELECT
    latent, explanation, role, explained_latent, sample, item, example, document, stratum, quantile,
    population, call, truth, prediction, probability, "value", "values", detail, status,
    is_judged, has_failed, is_counted, again, has_failed_again,
    weight * sum(weight) OVER alike / nullif(sum(weight) FILTER (is_judged) OVER alike, 0)
        AS stands_for,
    $is_natural::BOOLEAN AS is_natural, $is_sequential::BOOLEAN AS is_sequential
FROM weighed
WINDOW alike AS (
    PARTITION BY latent, explanation, truth, stratum, quantile
    ORDER BY item ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
)
