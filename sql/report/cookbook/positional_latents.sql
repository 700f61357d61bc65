-- name: report/cookbook/positional_latents
-- Which latents fire by position rather than by content? Those with half of their activations
-- at first tokens, or places that differ from the corpus's by half a bit.
-- column: capture       VARCHAR
-- column: hookpoint     VARCHAR
-- column: latent        INTEGER
-- column: first_share   DOUBLE   of activations on the first token of a document's span
-- column: position_bias DOUBLE   Jensen-Shannon divergence of places, in bits
-- column: n_activations BIGINT
-- grain: capture, hookpoint, latent
SELECT capture, hookpoint, latent, first_share, position_bias, n_activations
FROM latents
WHERE n_activations >= 20 AND (first_share >= 0.5 OR position_bias >= 0.5)
ORDER BY first_share DESC, position_bias DESC, capture, hookpoint, latent
LIMIT 50
