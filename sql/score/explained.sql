-- name: score/explained
-- The hookpoints of a capture for which an explainer has written anything on one sample, with the
-- latents that have an explanation made with $settings, and those of them that have a newer one
-- made otherwise.
-- param: capture   VARCHAR
-- param: explainer VARCHAR
-- param: settings  VARCHAR     none if NULL
-- param: sample    VARCHAR
-- column: hookpoint VARCHAR
-- column: n_made    BIGINT
-- column: n_newer   BIGINT
-- grain: hookpoint
WITH written AS (
    SELECT hookpoint, latent,
        count(*) FILTER (settings = $settings) AS n_made,
        max(created_at) FILTER (settings = $settings) AS made_at,
        max(created_at) FILTER (settings IS DISTINCT FROM $settings) AS other_at
    FROM explanations
    WHERE capture = $capture
        AND explainer = $explainer
        AND sample = $sample
    GROUP BY hookpoint, latent
)
SELECT
    hookpoint,
    count(*) FILTER (n_made > 0) AS n_made,
    count(*) FILTER (other_at > made_at) AS n_newer
FROM written
GROUP BY hookpoint
ORDER BY hookpoint
