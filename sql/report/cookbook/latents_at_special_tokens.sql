-- name: report/cookbook/latents_at_special_tokens
-- Which latents fire at or beside special tokens? Their examples say little.
-- column: capture       VARCHAR
-- column: hookpoint     VARCHAR
-- column: latent        INTEGER
-- column: special_share DOUBLE
-- column: density       DOUBLE
-- grain: capture, hookpoint, latent
SELECT capture, hookpoint, latent, special_share, density
FROM latents
WHERE special_share > 0.1
ORDER BY special_share DESC, density DESC, capture, hookpoint, latent
LIMIT 50
