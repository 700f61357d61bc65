-- name: strata/sought
-- The queries of the latents for which `found` holds fewer silent tiles than should do.
-- param: n_explain BIGINT
-- param: n_score   BIGINT
-- column: latent INTEGER
-- column: role   VARCHAR
-- column: query  BIGINT
-- column: number BIGINT
-- grain: latent, role, query
WITH enough AS (
    SELECT latent, role
    FROM found
    GROUP BY latent, role
    HAVING count(DISTINCT number)
        >= 2 * CASE role WHEN 'explain' THEN $n_explain ELSE $n_score END::BIGINT + 10
)
SELECT q.latent, q.role, q.query, q.number
FROM queries AS q
ANTI JOIN enough AS e ON q.latent = e.latent AND q.role = e.role
ORDER BY q.latent, q.role, q.query
