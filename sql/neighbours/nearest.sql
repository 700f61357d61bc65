-- name: neighbours/nearest
-- Of each latent in `pairs` (latent, neighbour, n tokens on which both fire) the others that fire
-- most on the same tokens: by the Jaccard index,
-- tokens on which both fire over tokens on which either does; of equal ones the lower first.
-- param: n_nearest BIGINT
-- column: latent     INTEGER
-- column: method     VARCHAR
-- column: rank       INTEGER   1 is the nearest
-- column: neighbour  INTEGER
-- column: similarity DOUBLE    in (0, 1]
-- grain: latent, rank
WITH compared AS (
    SELECT p.latent, p.neighbour, p.n / (f.n + g.n - p.n) AS similarity
    FROM pairs AS p
    INNER JOIN firing AS f ON p.latent = f.latent
    INNER JOIN firing AS g ON p.neighbour = g.latent
    WHERE p.latent <> p.neighbour
),
lowest AS (
    -- Few pairs reach the n-th highest value, so that only they need to be sorted.
    SELECT latent, list_min(max(similarity, $n_nearest::BIGINT)) AS similarity
    FROM compared
    GROUP BY latent
),
ranked AS (
    SELECT
        c.latent,
        c.neighbour,
        c.similarity,
        row_number() OVER (
            PARTITION BY c.latent ORDER BY c.similarity DESC, c.neighbour
        )::INTEGER AS rank
    FROM compared AS c
    INNER JOIN lowest AS l ON c.latent = l.latent AND c.similarity >= l.similarity
)
SELECT latent, 'cooccurrence' AS method, rank, neighbour, similarity
FROM ranked
WHERE rank <= $n_nearest
ORDER BY latent, rank
