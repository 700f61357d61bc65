-- name: strata/queries
-- The strongest windows of each latent in the documents of each role that similar text is wanted
-- of: what the search begins with.
-- param: n_explain BIGINT   similar windows wanted; none for 0
-- param: n_score   BIGINT
-- param: n_each    BIGINT   windows of each latent and role
-- column: latent INTEGER
-- column: role   VARCHAR
-- column: query  BIGINT    0 is the strongest
-- column: number BIGINT    of the tile
-- grain: latent, role, query
CREATE OR REPLACE TEMP TABLE queries AS
WITH asked AS (
    SELECT unnest(['explain', 'score']) AS role, unnest([$n_explain, $n_score])::BIGINT AS n
)
SELECT
    w.latent,
    t.role,
    row_number() OVER (
        PARTITION BY w.latent, t.role ORDER BY w.peak DESC, w.number
    ) - 1 AS query,
    w.number::BIGINT AS number
FROM windows AS w
INNER JOIN tiles AS t ON w.number = t.number
INNER JOIN asked AS a ON t.role = a.role AND a.n > 0
WHERE w.latent IN (SELECT latent FROM cells)
QUALIFY query < $n_each
