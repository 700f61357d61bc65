-- name: sampling/cells
-- What there is to draw from: the windows of each latent, role and quantile, counted, and the
-- first of them in the order of the draw.
-- param: n_explain BIGINT
-- param: n_score   BIGINT
-- column: latent     INTEGER
-- column: role       VARCHAR
-- column: quantile   INTEGER
-- column: population BIGINT
-- column: keys       BIGINT[]   ascending
-- grain: latent, role, quantile
CREATE OR REPLACE TEMP TABLE cells AS
SELECT
    latent,
    role,
    quantile,
    count(*) AS population,
    min(key, 2 * greatest($n_explain, $n_score)::BIGINT + 2) AS keys
FROM ranked
GROUP BY latent, role, quantile
