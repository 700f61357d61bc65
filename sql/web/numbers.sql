-- name: web/numbers
-- What lists of latents are filtered and sorted by: for every pair of explainer and scorer one row
-- for each latent that was counted or explained, with the pair's newest score of a metric. Pair i
-- is $explainers[i] with $scorers[i]; a latent's place is the number of its hookpoint in
-- $hookpoints times 2^32 plus its own number, so that one whole number names it.
-- param: capture    VARCHAR
-- param: metric     VARCHAR
-- param: hookpoints VARCHAR[]
-- param: explainers VARCHAR[]
-- param: scorers    VARCHAR[]
-- column: pair          INTEGER   0 is the first
-- column: place         BIGINT
-- column: status        VARCHAR   of the latent, `not sampled` if it was not counted
-- column: density       DOUBLE
-- column: max           FLOAT
-- column: n_activations BIGINT
-- column: value         DOUBLE
-- column: ci_low        DOUBLE
-- column: ci_high       DOUBLE
-- column: n             BIGINT
-- column: n_failed      BIGINT
-- column: null_value    DOUBLE
-- column: corrected     DOUBLE
-- column: p_value       DOUBLE
-- column: score_status  VARCHAR
-- grain: pair, place
WITH sites AS (
    SELECT unnest($hookpoints) AS hookpoint, unnest(range(len($hookpoints))) AS number
),
pairs AS (
    SELECT
        unnest($explainers) AS explainer, unnest($scorers) AS scorer,
        unnest(range(len($explainers)))::INTEGER AS pair
),
counted AS (
    SELECT hookpoint, latent, status, density, max, n_activations
    FROM latents
    WHERE capture = $capture
),
known AS (
    SELECT hookpoint, latent, status, density, max, n_activations FROM counted
    UNION ALL
    SELECT DISTINCT e.hookpoint, e.latent, 'not sampled', NULL, NULL, NULL
    FROM explanations AS e
    ANTI JOIN counted AS c USING (hookpoint, latent)
    WHERE e.capture = $capture
),
scored AS (
    SELECT
        hookpoint, latent, explainer, scorer, "value", ci_low, ci_high, n, n_failed, null_value,
        corrected, p_value, status
    FROM newest_scores($capture)
    WHERE metric = $metric
)
SELECT
    p.pair, i.number * 4294967296 + k.latent AS place, k.status, k.density, k.max,
    k.n_activations, s."value", s.ci_low, s.ci_high, s.n, s.n_failed, s.null_value, s.corrected,
    s.p_value, s.status AS score_status
FROM known AS k
JOIN sites AS i USING (hookpoint)
CROSS JOIN pairs AS p
LEFT JOIN scored AS s
    ON s.hookpoint = k.hookpoint AND s.latent = k.latent AND s.explainer = p.explainer
        AND s.scorer = p.scorer
ORDER BY p.pair, place
