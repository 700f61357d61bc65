-- name: sampling/select
-- The latents to work on: those with enough windows, and of these at most $max_latents,
-- a random choice that depends on $seed and the latent alone.
-- param: capture     VARCHAR
-- param: hookpoint   VARCHAR
-- param: among       INTEGER[]   only these; NULL takes all
-- param: min_windows BIGINT
-- param: max_latents BIGINT
-- param: seed        BIGINT
-- column: latent INTEGER
-- grain: latent
WITH eligible AS (
    SELECT latent
    FROM latents
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND n_windows >= $min_windows
        AND ($among::INTEGER[] IS NULL OR latent IN (SELECT unnest($among::INTEGER[])))
),
chosen AS (
    SELECT latent
    FROM eligible
    ORDER BY mix($seed::BIGINT, latent::BIGINT), latent
    LIMIT $max_latents
)
SELECT latent FROM chosen ORDER BY latent
