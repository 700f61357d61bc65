-- name: sampling/examples
-- The examples of some latents of one unit, in order.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: sample    VARCHAR
-- param: role      VARCHAR   NULL gives both roles
-- param: latents   INTEGER[]
-- column: latent      INTEGER
-- column: example     INTEGER
-- column: role        VARCHAR
-- column: stratum     VARCHAR
-- column: quantile    INTEGER
-- column: document    BIGINT
-- column: start       BIGINT
-- column: tokens      INTEGER[]
-- column: values      FLOAT[]
-- column: peak        FLOAT
-- column: peak_offset INTEGER
-- column: population  BIGINT
-- column: weight      DOUBLE
-- grain: latent, example
SELECT
    latent, example, role, stratum, quantile, document, start, tokens, "values", peak,
    peak_offset, population, weight
FROM examples
WHERE capture = $capture
    AND hookpoint = $hookpoint
    AND bucket = $bucket
    AND sample = $sample
    AND ($role IS NULL OR role = $role)
    AND list_contains($latents, latent)
ORDER BY latent, example
