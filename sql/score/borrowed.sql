-- name: score/borrowed
-- Explanations of other latents for the null: of the same hookpoint, made the same way, and close
-- in density, that is at most $reach places away when all explained latents are ordered by it.
-- Of those $n are drawn by ($seed, latent, other latent) alone, so that near copies of a latent,
-- which have its density, are not preferred. A share of the latents gets any. Of several that one
-- latent has the newest counts.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR
-- param: settings  VARCHAR
-- param: sample    VARCHAR
-- param: latents   INTEGER[]
-- param: n         BIGINT
-- param: reach     BIGINT
-- param: share     DOUBLE
-- param: seed      BIGINT
-- column: latent           INTEGER
-- column: explained_latent INTEGER
-- column: explanation      VARCHAR
-- column: text             VARCHAR
-- column: detail           VARCHAR
-- grain: latent, explained_latent
WITH newest AS (
    SELECT capture, hookpoint, latent, explanation, "text", detail, status
    FROM explanations
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND explainer = $explainer
        AND settings = $settings
        AND sample = $sample
    QUALIFY row_number() OVER (
        PARTITION BY latent ORDER BY created_at DESC NULLS LAST, explanation
    ) = 1
),
explained AS (
    SELECT e.latent, e.explanation, e."text", e.detail,
        row_number() OVER (ORDER BY l.density, e.latent) AS place
    FROM newest AS e
    JOIN latents AS l USING (capture, hookpoint, latent)
    WHERE e.status = 'ok'
),
targets AS (
    SELECT latent, place
    FROM explained
    WHERE latent IN (SELECT unnest($latents::INTEGER[]))
        AND mix(mix($seed::BIGINT, 7001), latent::BIGINT) < $share * 4294967296
),
near AS (
    SELECT t.latent, o.latent AS explained_latent, o.explanation, o."text", o.detail
    FROM targets AS t
    JOIN explained AS o ON o.place BETWEEN t.place - $reach AND t.place + $reach
    WHERE o.latent <> t.latent
)
SELECT latent, explained_latent, explanation, "text", detail
FROM near
QUALIFY row_number() OVER (
    PARTITION BY latent
    ORDER BY mix(mix(mix($seed::BIGINT, 7002), latent::BIGINT), explained_latent::BIGINT),
        explained_latent
) <= $n
ORDER BY latent, explained_latent
