-- name: report/score_blocks
-- A metric's values times how often the latents fire, summed over at most 256 groups into which
-- latents are dealt by a random number: all that a bootstrap of the frequency-weighted mean needs.
-- Up to 256 latents a group is a latent.
-- param: capture VARCHAR
-- param: metric  VARCHAR
-- column: hookpoint VARCHAR
-- column: explainer VARCHAR
-- column: scorer    VARCHAR
-- column: block     BIGINT
-- column: total     DOUBLE   values times activations
-- column: weight    DOUBLE   activations
-- grain: hookpoint, explainer, scorer, block
WITH weighed AS (
    SELECT
        s.hookpoint, s.explainer, s.scorer, s."value", coalesce(l.n_activations, 0) AS weight,
        row_number() OVER (
            PARTITION BY s.hookpoint, s.explainer, s.scorer
            ORDER BY mix(7003, s.latent::BIGINT), s.latent
        ) % 256 AS block
    FROM newest_scores($capture) AS s
    LEFT JOIN latents AS l
        ON l.capture = $capture AND l.hookpoint = s.hookpoint AND l.latent = s.latent
    WHERE s.metric = $metric AND s."value" IS NOT NULL
)
SELECT hookpoint, explainer, scorer, block,
    sum("value" * weight ORDER BY "value", weight) AS total,
    sum(weight)::DOUBLE AS weight
FROM weighed
GROUP BY hookpoint, explainer, scorer, block
ORDER BY hookpoint, explainer, scorer, block
