-- name: sampling/walks
-- Where each latent looks for negatives: an arc of the ring of tiles that begins at a place of the
-- latent's own and is expected to hold more than enough tiles on which it is silent (six standard
-- deviations and ten more). `population` counts the role's tiles on which it is silent.
-- param: n_explain BIGINT
-- param: n_score   BIGINT
-- param: seed      BIGINT
-- column: latent     INTEGER
-- column: role       VARCHAR
-- column: n          BIGINT
-- column: population BIGINT
-- column: origin     BIGINT   place on the ring, below 2^32
-- column: arc        BIGINT   at most 2^32, the whole ring
-- grain: latent, role
CREATE OR REPLACE TEMP TABLE walks AS
WITH roles AS (
    SELECT role, count(*) AS n_tiles FROM tiles GROUP BY role
),
active AS (
    SELECT latent, role, sum(population)::BIGINT AS n_active FROM cells GROUP BY latent, role
),
latents_drawn AS (
    SELECT DISTINCT latent FROM cells
),
silent AS (
    SELECT
        l.latent,
        r.role,
        CASE r.role WHEN 'explain' THEN $n_explain ELSE $n_score END::BIGINT AS n,
        r.n_tiles - coalesce(a.n_active, 0) AS population
    FROM latents_drawn AS l
    CROSS JOIN roles AS r
    LEFT JOIN active AS a ON l.latent = a.latent AND r.role = a.role
)
SELECT
    latent,
    role,
    n,
    population,
    mix(mix($seed::BIGINT, -2), latent) AS origin,
    ceil(least(1.0, (n + 6 * sqrt(n) + 10) / population) * 4294967296)::BIGINT AS arc
FROM silent
WHERE population > 0 AND n > 0
