-- name: strata/similar
-- Add to `candidates` the tiles of `found`: the queries take turns, each with the nearest tile
-- that no other has given. `population` counts the silent tiles of the role among those that were
-- looked at, the nearest to any of the queries.
-- param: n_explain BIGINT
-- param: n_score   BIGINT
-- column: Count BIGINT   candidates added
INSERT INTO candidates
WITH ranked AS (
    SELECT
        latent,
        role,
        query,
        number,
        max(similarity) OVER (PARTITION BY latent, number) AS similarity,
        row_number() OVER (
            PARTITION BY latent, role, query ORDER BY similarity DESC, number
        ) AS turn
    FROM found
),
once AS (
    SELECT latent, role, query, number, similarity, turn
    FROM ranked
    QUALIFY row_number() OVER (PARTITION BY latent, number ORDER BY turn, query) = 1
),
placed AS (
    SELECT
        latent,
        role,
        number,
        similarity,
        CASE role WHEN 'explain' THEN $n_explain ELSE $n_score END::BIGINT AS n,
        count(*) OVER (PARTITION BY latent, role) AS population,
        row_number() OVER (PARTITION BY latent, role ORDER BY turn, query) - 1 AS place
    FROM once
)
SELECT latent, role, 'similar', n, number, NULL, NULL, similarity, population, place
FROM placed
WHERE place < 2 * n + 10
