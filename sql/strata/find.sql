-- name: strata/find
-- Add to `found` what a search brought and is not there, as far as it is of the role and the
-- latent is silent in it.
-- column: Count BIGINT   rows added
INSERT INTO found
SELECT f.latent, f.role, f.query, f.number, f.similarity
FROM nearest_tiles AS f
INNER JOIN tiles AS t ON f.number = t.number AND f.role = t.role
ANTI JOIN windows AS w ON f.latent = w.latent AND f.number = w.number
ANTI JOIN found AS o ON f.latent = o.latent AND f.query = o.query AND f.number = o.number
    AND f.role = o.role
