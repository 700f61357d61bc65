-- name: web/outputs
-- The tokens whose logits one latent's decoder row raises and lowers most, farthest first.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: latent    INTEGER
-- column: latent  INTEGER
-- column: raised  STRUCT("text" VARCHAR, logit FLOAT)[]
-- column: lowered STRUCT("text" VARCHAR, logit FLOAT)[]
-- grain: latent
SELECT latent, raised, lowered
FROM outputs
WHERE capture = $capture AND hookpoint = $hookpoint AND latent = $latent
ORDER BY latent
