-- name: report/listing_counts
-- How many latents of each hookpoint have a score of a metric, an explanation but no score, or
-- neither; together all latents of the coder.
-- param: capture VARCHAR
-- param: metric  VARCHAR
-- column: hookpoint   VARCHAR
-- column: n_latents   BIGINT
-- column: n_scored    BIGINT
-- column: n_explained BIGINT   explained, without a score
-- column: n_rest      BIGINT
-- grain: hookpoint
WITH scored AS (
    SELECT DISTINCT hookpoint, latent
    FROM newest_scores($capture)
    WHERE metric = $metric AND "value" IS NOT NULL
),
explained AS (
    SELECT DISTINCT hookpoint, latent FROM newest_explanations($capture) WHERE status = 'ok'
),
either AS (
    SELECT hookpoint, latent, true AS has_score FROM scored
    UNION ALL
    SELECT e.hookpoint, e.latent, false AS has_score
    FROM explained AS e
    ANTI JOIN scored AS s USING (hookpoint, latent)
)
SELECT
    h.hookpoint,
    h.n_latents::BIGINT AS n_latents,
    count(*) FILTER (e.has_score) AS n_scored,
    count(*) FILTER (NOT e.has_score) AS n_explained,
    h.n_latents - count(e.has_score) AS n_rest
FROM hookpoints AS h
LEFT JOIN either AS e USING (hookpoint)
WHERE h.capture = $capture
GROUP BY h.hookpoint, h.n_latents
ORDER BY h.hookpoint
