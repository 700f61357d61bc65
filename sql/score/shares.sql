-- name: score/shares
-- Shares of the items that were called true, with 95 % intervals that allow for items of one call
-- or document: tpr of the true and fpr of the false ones that count (see score/items),
-- tpr_quantile_Q and fpr_STRATUM of one quantile or stratum, recall_natural every activating window
-- as often as it stands for. accuracy is the share that was called right, self_agreement of the
-- items that were judged twice the share that was called the same both times.
--
-- A share's effective number of items is (sum w)^2 / (sum w^2 + correlations of all pairs), less
-- what few calls or documents tell about their own spread (Korn and Graubard 1998: by the squared
-- ratio of Student's quantiles for items and for calls or documents). Its interval is Wilson's
-- with that number.
-- column: latent        INTEGER
-- column: explanation   VARCHAR
-- column: role          VARCHAR
-- column: part          VARCHAR
-- column: n             BIGINT    items that the judge answered
-- column: n_failed      BIGINT
-- column: share         DOUBLE    NULL without items, without predictions or without weights
-- column: effective     DOUBLE
-- column: low           DOUBLE
-- column: high          DOUBLE
-- column: is_sequential BOOLEAN
-- grain: latent, explanation, part
CREATE OR REPLACE TEMP TABLE shares AS
WITH parts AS (
    SELECT
        latent, explanation, role, item, call, document, is_judged, has_failed,
        prediction AS hit, 1.0::DOUBLE AS weight,
        unnest(list_filter(
            CASE WHEN truth THEN ['tpr', 'tpr_quantile_' || quantile]
                ELSE [
                    CASE WHEN is_counted THEN 'fpr' END,
                    CASE WHEN stratum <> 'activating' THEN 'fpr_' || stratum END
                ] END,
            lambda name: name IS NOT NULL
        )) AS part
    FROM items
    WHERE truth IS NOT NULL
    UNION ALL
    SELECT latent, explanation, role, item, call, document, is_judged, has_failed,
        prediction = truth, 1, 'accuracy'
    FROM items
    WHERE truth IS NOT NULL AND is_counted
    UNION ALL
    SELECT latent, explanation, role, item, call, document, is_judged, has_failed,
        prediction, stands_for, 'recall_natural'
    FROM items
    WHERE is_natural AND truth AND stratum = 'activating'
    UNION ALL
    SELECT latent, explanation, role, item, call, document, is_judged AND again IS NOT NULL,
        has_failed OR has_failed_again, prediction = again, 1, 'self_agreement'
    FROM items
    WHERE has_failed_again IS NOT NULL
),
placed AS (
    SELECT latent, explanation, part, 'call' AS kind, call AS place, weight
    FROM parts
    WHERE is_judged AND call IS NOT NULL
    UNION ALL
    SELECT latent, explanation, part, 'document', document, weight
    FROM parts
    WHERE is_judged AND document IS NOT NULL
),
clusters AS (
    SELECT latent, explanation, part, kind, sum(weight) ** 2 - sum(weight ** 2) AS pairs
    FROM placed
    GROUP BY latent, explanation, part, kind, place
),
kinds AS (
    SELECT latent, explanation, part, kind, sum(pairs ORDER BY pairs) AS pairs,
        count(*) AS n_clusters
    FROM clusters
    GROUP BY latent, explanation, part, kind
),
excess AS (
    SELECT k.latent, k.explanation, k.part,
        sum(k.pairs * c.correlation ORDER BY k.kind) AS pairs,
        min(k.n_clusters) AS n_clusters
    FROM kinds AS k
    JOIN correlations AS c USING (latent, explanation, kind)
    GROUP BY k.latent, k.explanation, k.part
),
counted AS (
    SELECT
        latent, explanation, role, part,
        count(*) FILTER (is_judged) AS n,
        count(*) FILTER (has_failed) AS n_failed,
        least(count(weight) FILTER (is_judged), count(hit) FILTER (is_judged))
            = count(*) FILTER (is_judged) AS is_whole,
        sum(weight ORDER BY item) FILTER (is_judged) AS whole,
        sum(weight ORDER BY item) FILTER (is_judged AND hit) AS hits,
        sum(weight ** 2 ORDER BY item) FILTER (is_judged) AS squares
    FROM parts
    GROUP BY latent, explanation, role, part
),
skeleton AS (
    SELECT latent, explanation, role, unnest(['tpr', 'fpr', 'accuracy']) AS part
    FROM (SELECT DISTINCT latent, explanation, role FROM items)
),
every AS (
    SELECT latent, explanation, role, part, n, n_failed, is_whole, whole, hits, squares
    FROM counted
    UNION ALL
    SELECT k.latent, k.explanation, k.role, k.part, 0, 0, true, NULL, NULL, NULL
    FROM skeleton AS k
    ANTI JOIN counted AS c USING (latent, explanation, part)
),
estimates AS (
    SELECT
        s.latent, s.explanation, s.role, s.part, s.n, s.n_failed,
        CASE WHEN s.is_whole AND s.n > 0 THEN coalesce(s.hits, 0) / s.whole END AS share,
        CASE WHEN s.n > 0 AND s.whole > 0
            THEN round(greatest(1, s.whole ** 2 / (s.squares + coalesce(x.pairs, 0))
                * (student(s.n - 1) / student(coalesce(x.n_clusters, s.n) - 1)) ** 2), 6)
            END AS effective
    FROM every AS s
    LEFT JOIN excess AS x USING (latent, explanation, part)
),
modes AS (
    SELECT coalesce(bool_or(is_sequential), false) AS is_sequential FROM items
)
SELECT
    e.latent, e.explanation, e.role, e.part, e.n, e.n_failed, e.share, e.effective,
    within_low(e.share * e.effective, e.effective, m.is_sequential) AS low,
    within_high(e.share * e.effective, e.effective, m.is_sequential) AS high,
    m.is_sequential
FROM estimates AS e
CROSS JOIN modes AS m
