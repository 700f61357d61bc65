-- name: score/judged_latents
-- The latents of which a scorer judged anything.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: scorer    VARCHAR
-- param: settings  VARCHAR
-- column: latent INTEGER
-- grain: latent
SELECT DISTINCT latent
FROM judgements
WHERE capture = $capture
    AND hookpoint = $hookpoint
    AND scorer = $scorer
    AND settings = $settings
ORDER BY latent
