-- name: bridges/judged_items
-- The items of own explanations that stand, that were called true or false, with the tokens they
-- showed: of each scorer those of its newest settings. Latents come one after the other.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR
-- param: latents   INTEGER[]   NULL gives all
-- column: latent      INTEGER
-- column: scorer      VARCHAR
-- column: item        INTEGER
-- column: stratum     VARCHAR
-- column: quantile    INTEGER
-- column: truth       BOOLEAN
-- column: prediction  BOOLEAN
-- column: probability DOUBLE
-- column: similarity  DOUBLE
-- column: tokens      INTEGER[]   NULL where the item was no example of the lake
-- column: values      FLOAT[]
-- column: detail      VARCHAR
-- grain: latent, scorer, item
WITH standing AS (
    SELECT latent, explanation, sample
    FROM newest_explanations($capture)
    WHERE hookpoint = $hookpoint AND explainer = $explainer
        AND ($latents IS NULL OR list_contains($latents, latent))
),
settled AS (
    SELECT explanation, scorer, settings
    FROM scores
    WHERE capture = $capture AND hookpoint = $hookpoint
        AND explanation IN (SELECT explanation FROM standing)
    QUALIFY row_number() OVER (
        PARTITION BY explanation, scorer ORDER BY created_at DESC NULLS LAST, settings, metric
    ) = 1
)
SELECT
    j.latent, j.scorer, j.item, j.stratum, j.quantile, j.truth, j.prediction, j.probability,
    e.similarity, e.tokens, e."values", j.detail
FROM judgements AS j
JOIN standing AS s ON s.explanation = j.explanation AND s.latent = j.latent
JOIN settled AS t ON t.explanation = j.explanation AND t.scorer = j.scorer
    AND t.settings = j.settings
LEFT JOIN examples AS e ON e.capture = j.capture AND e.hookpoint = j.hookpoint
    AND e.sample = s.sample AND e.latent = j.latent AND e.example = j.example
WHERE j.capture = $capture AND j.hookpoint = $hookpoint AND j.role = 'own'
    AND j.truth IS NOT NULL AND j.status NOT IN ('stopped_early', 'not_applicable')
ORDER BY j.latent, j.scorer, j.item
