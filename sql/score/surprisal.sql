-- name: score/surprisal
-- What a language model gains from an explanation.
--
-- auroc, auprc_natural: of the nats gained a token, as in score/curves. loss_saved: the share of
-- the nats of the activating texts that the explanation saves, 1 if it foretold them word for
-- word, negative if it misleads; of a ratio of two sums, its interval by the jackknife over
-- documents. nats_saved: the nats it saves for each token of the activating texts, less those for
-- each of the silent ones, so that what helps with any text counts for nothing; Welch's interval
-- from score/means.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: metric          VARCHAR
-- column: value           DOUBLE
-- column: ci_low          DOUBLE
-- column: ci_high         DOUBLE
-- column: n               BIGINT    items that were judged
-- column: n_failed        BIGINT
-- column: lower_is_better BOOLEAN
-- grain: latent, explanation, metric
WITH losses AS (
    SELECT
        latent, explanation, role, item, document, truth, is_judged, has_failed,
        (detail ->> '$.plain')::DOUBLE AS plain,
        (detail ->> '$.plain')::DOUBLE - (detail ->> '$.loss')::DOUBLE AS saved
    FROM items
    WHERE truth OR is_counted
),
counted AS (
    SELECT latent, explanation, any_value(role) AS role,
        count(*) FILTER (is_judged) AS n,
        count(*) FILTER (has_failed) AS n_failed,
        count(*) FILTER (is_judged AND truth) AS n_active,
        count(*) FILTER (has_failed AND truth) AS n_failed_active
    FROM losses
    GROUP BY latent, explanation
),
documents AS (
    SELECT latent, explanation, sum(saved ORDER BY item) AS saved, sum(plain ORDER BY item) AS plain,
        coalesce('document ' || document, 'item ' || item) AS cluster
    FROM losses
    WHERE is_judged AND truth
    GROUP BY latent, explanation, cluster
),
left_out AS (
    SELECT latent, explanation, cluster, plain,
        sum(saved) OVER alike / nullif(sum(plain) OVER alike, 0) AS share,
        (sum(saved) OVER alike - saved) / nullif(sum(plain) OVER alike - plain, 0) AS others
    FROM documents
    WINDOW alike AS (
        PARTITION BY latent, explanation ORDER BY cluster
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
spread AS (
    SELECT latent, explanation, any_value(share) AS share,
        CASE WHEN count(others) = count(*) AND count(*) > 1 AND min(others) < max(others)
            THEN student(
                sum(plain ORDER BY cluster) ** 2 / sum(plain ** 2 ORDER BY cluster) - 1
            ) * sqrt((count(*) - 1) / count(*) * sum((others - share) ** 2 ORDER BY cluster))
            END AS reach
    FROM left_out
    GROUP BY latent, explanation
),
wanted AS (
    SELECT latent, explanation, role, n, n_failed, unnest(['auroc', 'auprc_natural']) AS metric
    FROM counted
),
measured AS (
    SELECT w.latent, w.explanation, w.role, w.metric, c."value", c.ci_low, c.ci_high,
        coalesce(c.n, w.n) AS n, coalesce(c.n_failed, w.n_failed) AS n_failed
    FROM wanted AS w
    LEFT JOIN curves AS c USING (latent, explanation, metric)
    WHERE w.metric = 'auroc' OR c.metric IS NOT NULL
    UNION ALL
    SELECT c.latent, c.explanation, c.role, 'loss_saved', s.share, s.share - s.reach,
        s.share + s.reach, c.n_active, c.n_failed_active
    FROM counted AS c
    LEFT JOIN spread AS s USING (latent, explanation)
    UNION ALL
    SELECT c.latent, c.explanation, c.role, 'nats_saved', t.mean - f.mean,
        t.mean - f.mean - welch(t.variance, t.freedom, f.variance, f.freedom),
        t.mean - f.mean + welch(t.variance, t.freedom, f.variance, f.freedom), c.n, c.n_failed
    FROM counted AS c
    LEFT JOIN means AS t ON t.latent = c.latent AND t.explanation = c.explanation AND t.truth
    LEFT JOIN means AS f ON f.latent = c.latent AND f.explanation = c.explanation AND NOT f.truth
)
SELECT
    latent, explanation, role, metric, "value", ci_low, ci_high, n::BIGINT AS n,
    n_failed::BIGINT AS n_failed, false AS lower_is_better
FROM measured
ORDER BY latent, explanation, metric
