-- name: score/surprisal
-- What a language model gains from an explanation.
--
-- auroc, auprc_natural: of the nats gained a token, as in score/curves. loss_saved: the share of
-- the nats of the activating texts that the explanation saves, 1 if it foretold them word for
-- word, negative if it misleads; of a ratio of two sums, its interval by linearisation. nats_saved:
-- the nats it saves for each token of the activating texts, less those for each of the silent
-- ones, so that what helps with any text counts for nothing; limits from the same.
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
        latent, explanation, role, item, truth, is_judged, has_failed, "value",
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
        count(*) FILTER (has_failed AND truth) AS n_failed_active,
        sum(saved ORDER BY item) FILTER (is_judged AND truth)
            / nullif(sum(plain ORDER BY item) FILTER (is_judged AND truth), 0) AS share,
        avg("value") FILTER (is_judged AND truth) - avg("value") FILTER (is_judged AND NOT truth)
            AS gain,
        1.959963984540054 * sqrt(
            var_samp("value") FILTER (is_judged AND truth) / count(*) FILTER (is_judged AND truth)
            + var_samp("value") FILTER (is_judged AND NOT truth)
                / count(*) FILTER (is_judged AND NOT truth)
        ) AS reach
    FROM losses
    GROUP BY latent, explanation
),
spread AS (
    SELECT l.latent, l.explanation,
        1.959963984540054 * sqrt(
            any_value(c.n_active) / nullif(any_value(c.n_active) - 1, 0)
            * sum((l.saved - c.share * l.plain) ** 2 ORDER BY l.item)
        ) / nullif(sum(l.plain ORDER BY l.item), 0) AS reach
    FROM losses AS l
    JOIN counted AS c USING (latent, explanation)
    WHERE l.is_judged AND l.truth
    GROUP BY l.latent, l.explanation
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
    SELECT c.latent, c.explanation, c.role, 'loss_saved', c.share, c.share - s.reach,
        c.share + s.reach, c.n_active, c.n_failed_active
    FROM counted AS c
    LEFT JOIN spread AS s USING (latent, explanation)
    UNION ALL
    SELECT latent, explanation, role, 'nats_saved', gain, gain - reach, gain + reach, n, n_failed
    FROM counted
)
SELECT
    latent, explanation, role, metric, "value", ci_low, ci_high, n::BIGINT AS n,
    n_failed::BIGINT AS n_failed, false AS lower_is_better
FROM measured
ORDER BY latent, explanation, metric
