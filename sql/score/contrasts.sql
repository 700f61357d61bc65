-- name: score/contrasts
-- What precision, F1 and IoU are made of: a share of the true and one of the false items that were
-- called true, and how many false ones come on one true one (`odds`). Of kind `drawn` these are
-- the items as they were judged, of kind `natural` activating against random windows at the rate
-- at which the latent fires in the corpus.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: kind            VARCHAR
-- column: n               BIGINT
-- column: n_failed        BIGINT
-- column: n_true          BIGINT
-- column: failed_true     BIGINT
-- column: odds            DOUBLE
-- column: tpr             DOUBLE
-- column: tpr_low         DOUBLE
-- column: tpr_high        DOUBLE
-- column: effective_true  DOUBLE
-- column: fpr             DOUBLE
-- column: fpr_low         DOUBLE
-- column: fpr_high        DOUBLE
-- column: effective_false DOUBLE
-- column: is_sequential   BOOLEAN
-- grain: latent, explanation, kind
CREATE OR REPLACE TEMP TABLE contrasts AS
WITH cells AS (
    SELECT latent, explanation, truth, quantile, max(population)::DOUBLE AS population
    FROM items
    WHERE (truth AND stratum = 'activating') OR (NOT truth AND stratum = 'random')
    GROUP BY latent, explanation, truth, quantile
),
natural_odds AS (
    SELECT latent, explanation,
        sum(population) FILTER (NOT truth) / sum(population) FILTER (truth) AS odds
    FROM cells
    GROUP BY latent, explanation
    HAVING odds IS NOT NULL
)
SELECT
    t.latent, t.explanation, t.role, 'drawn' AS kind, t.n + f.n AS n,
    t.n_failed + f.n_failed AS n_failed, t.n AS n_true, t.n_failed AS failed_true,
    f.n / nullif(t.n, 0) AS odds,
    t.share AS tpr, t.low AS tpr_low, t.high AS tpr_high, t.effective AS effective_true,
    f.share AS fpr, f.low AS fpr_low, f.high AS fpr_high, f.effective AS effective_false,
    t.is_sequential
FROM shares AS t
JOIN shares AS f USING (latent, explanation)
WHERE t.part = 'tpr' AND f.part = 'fpr'
UNION ALL
SELECT
    t.latent, t.explanation, t.role, 'natural', t.n + f.n, t.n_failed + f.n_failed, t.n,
    t.n_failed, o.odds, t.share, t.low, t.high, t.effective, f.share, f.low, f.high, f.effective,
    t.is_sequential
FROM shares AS t
JOIN shares AS f USING (latent, explanation)
JOIN natural_odds AS o USING (latent, explanation)
WHERE t.part = 'recall_natural' AND f.part = 'fpr_random'
