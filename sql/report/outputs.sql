-- name: report/outputs
-- The tokens whose logits the decoder rows of some latents raise and lower most, farthest first.
-- Latent i of the list is number $latents[i] of hookpoint $hookpoints[i].
-- param: capture    VARCHAR
-- param: hookpoints VARCHAR[]
-- param: latents    INTEGER[]
-- column: hookpoint VARCHAR
-- column: latent    INTEGER
-- column: raised    STRUCT(token_id INTEGER, text VARCHAR, logit FLOAT)[]
-- column: lowered   STRUCT(token_id INTEGER, text VARCHAR, logit FLOAT)[]
-- grain: hookpoint, latent
WITH wanted AS (
    SELECT DISTINCT unnest($hookpoints) AS hookpoint, unnest($latents) AS latent
)
SELECT o.hookpoint, o.latent, o.raised, o.lowered
FROM outputs AS o
JOIN wanted AS w USING (hookpoint, latent)
WHERE o.capture = $capture
ORDER BY o.hookpoint, o.latent
