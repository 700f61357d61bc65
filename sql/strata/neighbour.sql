-- name: strata/neighbour
-- Add to `candidates` tiles in which one of the latent's nearest fires and it does not, as
-- `lakeinterp.sampling.near` found them. Neighbours take turns, the nearest first.
-- param: n_explain BIGINT
-- param: n_score   BIGINT
-- column: Count BIGINT   candidates added
INSERT INTO candidates
SELECT
    o.latent,
    o.role,
    'neighbour',
    CASE o.role WHEN 'explain' THEN $n_explain ELSE $n_score END::BIGINT,
    o.number,
    o.token,
    n.neighbour,
    n.similarity,
    o.population,
    row_number() OVER (PARTITION BY o.latent, o.role ORDER BY o.turn, o.place) - 1
FROM near_tiles AS o
INNER JOIN near AS n ON o.latent = n.latent AND o.place = n.place
