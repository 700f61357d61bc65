-- name: score/correlations
-- How far two items of one call, or of one document, agree beyond chance: the mean product of their
-- standardised residuals, true and false items by themselves. The residual of an item is that of
-- its prediction; where nothing is predicted, that of its placement: how many items of the other
-- truth have a lower probability or value, ties half, which is what an area under the ROC curve is
-- the mean of (DeLong, DeLong and Clarke-Pearson 1988).
--
-- One explanation's estimate is rough, and that of all that were judged on the latent's items may
-- be too low for it: the larger counts. To the rough one 30 pairs of correlation 0.2 are added,
-- which is all there is where nothing or everything was called true. Residuals around an estimated
-- mean have -1 / (n - 1) as their mean product: that is added back.
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: kind        VARCHAR   call or document
-- column: correlation DOUBLE
-- grain: latent, explanation, kind
CREATE OR REPLACE TEMP TABLE correlations AS
WITH said AS (
    SELECT latent, explanation, sample, item, truth, call, document,
        prediction::INTEGER::DOUBLE AS height
    FROM items
    WHERE is_judged AND prediction IS NOT NULL
    UNION ALL
    SELECT latent, explanation, sample, item, truth, call, document,
        rank() OVER (PARTITION BY latent, explanation ORDER BY coalesce(probability, "value"))
            - rank() OVER (
                PARTITION BY latent, explanation, truth ORDER BY coalesce(probability, "value")
            )
            + (count(*) OVER (PARTITION BY latent, explanation, coalesce(probability, "value"))
                - count(*) OVER (
                    PARTITION BY latent, explanation, truth, coalesce(probability, "value")
                )) / 2.0
    FROM items
    WHERE is_judged AND is_counted AND prediction IS NULL AND truth IS NOT NULL
        AND coalesce(probability, "value") IS NOT NULL
),
residuals AS (
    SELECT
        latent, explanation, sample, truth, call, document, count(*) OVER alike AS n,
        (height - avg(height) OVER alike)
            / sqrt(nullif(greatest(0, avg(height ** 2) OVER alike - (avg(height) OVER alike) ** 2), 0))
            AS residual
    FROM said
    WINDOW alike AS (PARTITION BY latent, explanation, truth)
),
placed AS (
    SELECT latent, explanation, sample, truth, 'call' AS kind, call AS place, n, residual
    FROM residuals
    UNION ALL
    SELECT latent, explanation, sample, truth, 'document', document, n, residual
    FROM residuals
),
clusters AS (
    SELECT
        latent, explanation, any_value(sample) AS sample, kind,
        count(*) * (count(*) - 1) AS pairs,
        sum(residual) ** 2 - sum(residual ** 2)
            + count(*) * (count(*) - 1) / (any_value(n) - 1) AS together
    FROM placed
    WHERE place IS NOT NULL AND residual IS NOT NULL
    GROUP BY latent, explanation, truth, kind, place
    HAVING count(*) > 1
),
estimates AS (
    SELECT
        latent, explanation, sample, kind,
        (sum(together) + 0.2 * 30) / (sum(pairs) + 30) AS own,
        sum(sum(together)) OVER (PARTITION BY latent, sample, kind)
            / sum(sum(pairs)) OVER (PARTITION BY latent, sample, kind) AS of_all
    FROM clusters
    GROUP BY latent, explanation, sample, kind
),
judged AS (
    SELECT latent, explanation, any_value(sample) AS sample, kind
    FROM placed
    GROUP BY latent, explanation, kind
),
usual AS (
    SELECT latent, sample, kind, min(greatest(own, of_all)) AS correlation
    FROM estimates
    GROUP BY latent, sample, kind
)
SELECT
    j.latent, j.explanation, j.kind,
    round(
        greatest(0, least(1, coalesce(greatest(e.own, e.of_all), greatest(0.2, u.correlation)))), 9
    ) AS correlation
FROM judged AS j
LEFT JOIN estimates AS e USING (latent, explanation, kind)
LEFT JOIN usual AS u
    ON u.latent = j.latent AND u.kind = j.kind AND u.sample IS NOT DISTINCT FROM j.sample
