-- name: score/explanations
-- The explanation of each latent that stands: of one explainer and sample the newest.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR
-- param: sample    VARCHAR
-- param: latents   INTEGER[]
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: settings    VARCHAR
-- column: text        VARCHAR
-- column: detail      VARCHAR
-- column: status      VARCHAR
-- grain: latent
SELECT latent, explanation, settings, "text", detail, status
FROM explanations
WHERE capture = $capture
    AND hookpoint = $hookpoint
    AND explainer = $explainer
    AND sample = $sample
    AND latent IN (SELECT unnest($latents::INTEGER[]))
QUALIFY row_number() OVER (
    PARTITION BY latent ORDER BY created_at DESC NULLS LAST, explanation
) = 1
ORDER BY latent
