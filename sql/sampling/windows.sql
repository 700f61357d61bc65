-- name: sampling/windows
-- The tiles in which each latent of one unit fires. The peak is the largest activation, of equal
-- ones the first: the addend ranks equal values by position and is too small (at most 2^-25 of
-- the value for tiles below 2^19 tokens) to reorder two different floats.
-- param: capture       VARCHAR
-- param: hookpoint     VARCHAR
-- param: bucket        INTEGER
-- param: latents       INTEGER[]
-- param: window_tokens BIGINT
-- column: latent        INTEGER
-- column: number        BIGINT   of the tile
-- column: peak          FLOAT
-- column: peak_token    BIGINT
-- column: first_token   BIGINT   first token of the tile on which the latent fires
-- column: last_token    BIGINT
-- column: n_activations BIGINT
-- column: total         DOUBLE   sum of the activations
-- grain: latent, number
CREATE OR REPLACE TEMP TABLE windows AS
WITH placed AS (
    SELECT
        a.latent,
        b.number,
        a.token,
        a.value,
        a.value::DOUBLE
            + abs(a.value::DOUBLE) * (b.stop - a.token) * 0.00000000000005684341886080802 AS height
    FROM activations AS a
    INNER JOIN bins AS b
        ON a.token // $window_tokens = b.bin AND a.token >= b.tile AND a.token < b.stop
    WHERE a.capture = $capture
        AND a.hookpoint = $hookpoint
        AND a.bucket = $bucket
        AND a.latent IN (SELECT unnest($latents::INTEGER[]))
)
SELECT
    latent,
    number,
    max(value) AS peak,
    arg_max(token, height) AS peak_token,
    min(token) AS first_token,
    max(token) AS last_token,
    count(*) AS n_activations,
    sum(value::DOUBLE) AS total
FROM placed
GROUP BY latent, number
