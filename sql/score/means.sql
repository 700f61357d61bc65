-- name: score/means
-- Mean values of the true and of the false items that count (see score/items), with the variance of
-- the mean when items of one document, or else of one call, are not independent: by leaving out one
-- of these after the other (the jackknife over clusters, Efron and Tibshirani 1993, chapter 11).
-- freedom: degrees of freedom of the variance, (sum n)^2 / sum n^2 - 1 of the clusters' sizes n: one
-- less than there are if they are equally large, fewer if a few hold most items.
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: truth       BOOLEAN
-- column: mean        DOUBLE
-- column: variance    DOUBLE    of the mean; NULL for less than two clusters, or where nothing varies
-- column: freedom     DOUBLE
-- grain: latent, explanation, truth
CREATE OR REPLACE TEMP TABLE means AS
WITH clusters AS (
    SELECT latent, explanation, truth, count(*) AS n, sum("value" ORDER BY item) AS total,
        CASE WHEN document IS NOT NULL THEN 'document ' || document
            WHEN call IS NOT NULL THEN 'call ' || call
            ELSE 'item ' || item END AS cluster
    FROM items
    WHERE is_judged AND (truth OR is_counted) AND truth IS NOT NULL AND "value" IS NOT NULL
    GROUP BY latent, explanation, truth, cluster
),
left_out AS (
    SELECT latent, explanation, truth, cluster, n, total,
        (sum(total) OVER alike - total) / nullif(sum(n) OVER alike - n, 0)
            - sum(total) OVER alike / sum(n) OVER alike AS shift
    FROM clusters
    WINDOW alike AS (
        PARTITION BY latent, explanation, truth ORDER BY cluster
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
)
SELECT
    latent, explanation, truth, sum(total ORDER BY cluster) / sum(n) AS mean,
    CASE WHEN count(*) > 1 AND min(total / n) < max(total / n)
        THEN (count(*) - 1) / count(*) * sum(shift ** 2 ORDER BY cluster) END AS variance,
    sum(n) ** 2 / sum(n ** 2) - 1 AS freedom
FROM left_out
GROUP BY latent, explanation, truth
