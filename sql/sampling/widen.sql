-- name: sampling/widen
-- Send the latents that found fewer negatives than there may be round the whole ring.
-- column: Count BIGINT   walks made longer
UPDATE walks
SET arc = 4294967296
WHERE arc < 4294967296
    AND least(n, population) > (
        SELECT count(*)
        FROM negatives
        WHERE negatives.latent = walks.latent AND negatives.role = walks.role
    )
