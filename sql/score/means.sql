-- name: score/means
-- Mean values of the true and of the false items that count (see score/items), with the variance of
-- the mean when items of one document, or else of one call, are not independent: by leaving out one
-- of these after the other (the jackknife over clusters, Efron and Tibshirani 1993, chapter 11).
-- freedom: degrees of freedom of the variance where what clusters share outweighs what sets their
-- items apart (Satterthwaite's approximation, as Bell and McCaffrey 2002): one less than there are
-- clusters if they are equally large, fewer if not. With p a cluster's share of the items and w its
-- p / (1 - p) squared, the variance is a quadratic form in the clusters' means whose matrix is
-- W p p' - w p' - p w' + diag(w), W = sum w; freedom is its trace squared over that of its square.
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
        n / sum(n) OVER alike AS p,
        (n / nullif(sum(n) OVER alike - n, 0)) ** 2 AS w,
        (sum(total) OVER alike - total) / nullif(sum(n) OVER alike - n, 0)
            - sum(total) OVER alike / sum(n) OVER alike AS shift
    FROM clusters
    WINDOW alike AS (
        PARTITION BY latent, explanation, truth ORDER BY cluster
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
traced AS (
    SELECT
        latent, explanation, truth, sum(total ORDER BY cluster) / sum(n) AS mean,
        CASE WHEN count(*) > 1 AND min(total / n) < max(total / n)
            THEN (count(*) - 1) / count(*) * sum(shift ** 2 ORDER BY cluster) END AS variance,
        sum(w ORDER BY n) AS w, sum(p ** 2 ORDER BY n) AS pp, sum(w * p ORDER BY n) AS wp,
        sum(w ** 2 ORDER BY n) AS ww, sum(w * p ** 2 ORDER BY n) AS wpp,
        sum(w ** 2 * p ORDER BY n) AS wwp
    FROM left_out
    GROUP BY latent, explanation, truth
)
SELECT
    latent, explanation, truth, mean, variance,
    coalesce(
        (w * pp - 2 * wp + w) ** 2 / (
            (w * pp) ** 2 + 2 * wp ** 2 - 4 * w * wp * pp + 2 * pp * ww
            + 2 * w * wpp - 4 * wwp + ww
        ), 0
    ) AS freedom
FROM traced
