-- name: score/correlations
-- How far two items of one call, or of one document, agree beyond chance: the mean product of their
-- standardised residuals, around the shares of true and of false items that were called true.
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
WITH residuals AS (
    SELECT
        latent, explanation, truth, call, document, count(*) OVER alike AS n,
        (prediction::INTEGER - avg(prediction::INTEGER) OVER alike)
            / sqrt(nullif(avg(prediction::INTEGER) OVER alike
                * (1 - avg(prediction::INTEGER) OVER alike), 0)) AS residual
    FROM items
    WHERE is_judged AND prediction IS NOT NULL
    WINDOW alike AS (PARTITION BY latent, explanation, truth)
),
placed AS (
    SELECT latent, explanation, truth, 'call' AS kind, call AS place, n, residual
    FROM residuals
    UNION ALL
    SELECT latent, explanation, truth, 'document', document, n, residual
    FROM residuals
),
clusters AS (
    SELECT
        latent, explanation, kind, count(*) * (count(*) - 1) AS pairs,
        sum(residual) ** 2 - sum(residual ** 2)
            + count(*) * (count(*) - 1) / (any_value(n) - 1) AS together
    FROM placed
    WHERE place IS NOT NULL AND residual IS NOT NULL
    GROUP BY latent, explanation, truth, kind, place
    HAVING count(*) > 1
),
estimates AS (
    SELECT
        latent, explanation, kind,
        (sum(together) + 0.2 * 30) / (sum(pairs) + 30) AS own,
        sum(sum(together)) OVER (PARTITION BY latent, kind)
            / sum(sum(pairs)) OVER (PARTITION BY latent, kind) AS of_all
    FROM clusters
    GROUP BY latent, explanation, kind
),
judged AS (
    SELECT DISTINCT latent, explanation, kind FROM placed
),
usual AS (
    SELECT latent, kind, min(greatest(own, of_all)) AS correlation
    FROM estimates
    GROUP BY latent, kind
)
SELECT
    j.latent, j.explanation, j.kind,
    round(
        greatest(0, least(1, coalesce(greatest(e.own, e.of_all), greatest(0.2, u.correlation)))), 9
    ) AS correlation
FROM judged AS j
LEFT JOIN estimates AS e USING (latent, explanation, kind)
LEFT JOIN usual AS u USING (latent, kind)
