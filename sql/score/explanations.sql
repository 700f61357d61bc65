-- name: score/explanations
-- The explanation of each latent that is scored: of one explainer and sample the newest that was
-- made with $settings; where the hookpoint has none of these, the newest of all.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR
-- param: settings  VARCHAR     none if NULL
-- param: sample    VARCHAR
-- param: latents   INTEGER[]
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: settings    VARCHAR
-- column: text        VARCHAR
-- column: detail      VARCHAR
-- column: status      VARCHAR
-- grain: latent
WITH written AS (
    SELECT latent, explanation, settings, "text", detail, status, created_at
    FROM explanations
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND explainer = $explainer
        AND sample = $sample
)
SELECT latent, explanation, settings, "text", detail, status
FROM written
WHERE (settings = $settings OR NOT EXISTS (SELECT 1 FROM written WHERE settings = $settings))
    AND latent IN (SELECT unnest($latents::INTEGER[]))
QUALIFY row_number() OVER (
    PARTITION BY latent ORDER BY created_at DESC NULLS LAST, explanation
) = 1
ORDER BY latent
