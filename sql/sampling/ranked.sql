-- name: sampling/ranked
-- The windows of those latents that have enough of them, ranked by peak into quantiles of equal
-- count over both roles together; 1 is the strongest. `key` orders a random draw: its upper bits
-- depend on seed, latent and the tile's first token alone, its lower 31 bits are the tile.
-- param: latents     INTEGER[]   only these
-- param: n_quantiles BIGINT
-- param: min_windows BIGINT
-- param: seed        BIGINT
-- column: latent   INTEGER
-- column: number   BIGINT
-- column: role     VARCHAR
-- column: quantile INTEGER
-- column: key      BIGINT
-- grain: latent, number
CREATE OR REPLACE TEMP TABLE ranked AS
WITH eligible AS (
    SELECT latent
    FROM windows
    WHERE latent IN (SELECT unnest($latents::INTEGER[]))
    GROUP BY latent
    HAVING count(*) >= $min_windows
)
SELECT
    w.latent,
    w.number,
    t.role,
    ntile($n_quantiles) OVER (
        PARTITION BY w.latent ORDER BY w.peak DESC, w.peak_token
    )::INTEGER AS quantile,
    mix(mix($seed::BIGINT, w.latent), t.tile) * 2147483648 + w.number AS key
FROM windows AS w
SEMI JOIN eligible AS e ON w.latent = e.latent
INNER JOIN tiles AS t ON w.number = t.number
