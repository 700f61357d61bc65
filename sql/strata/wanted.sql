-- name: strata/wanted
-- The nearest latents of each latent, by latent and place.
-- column: latent    INTEGER
-- column: place     BIGINT
-- column: neighbour INTEGER
-- column: origin    BIGINT
-- grain: latent, place
SELECT latent, place, neighbour, origin
FROM near
ORDER BY latent, place
