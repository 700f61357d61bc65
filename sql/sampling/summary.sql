-- name: sampling/summary
-- What some latents of a unit hold of one sample, by role and stratum, and what they lack of the
-- number asked for.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: sample    VARCHAR
-- param: latents   INTEGER[]
-- param: roles     VARCHAR[]   what was asked for: role, stratum and number, element by element
-- param: strata    VARCHAR[]
-- param: n_asked   BIGINT[]
-- column: role       VARCHAR
-- column: stratum    VARCHAR
-- column: n_latents  BIGINT   latents with examples of any kind
-- column: n_examples BIGINT
-- column: n_short    BIGINT   latents with fewer of this kind than asked for
-- column: n_missing  BIGINT   examples they lack
-- grain: role, stratum
WITH asked AS (
    SELECT unnest($roles) AS role, unnest($strata) AS stratum, unnest($n_asked::BIGINT[]) AS n
),
held AS (
    SELECT latent, role, stratum, count(*) AS n
    FROM examples
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND bucket = $bucket
        AND sample = $sample
        AND latent IN (SELECT unnest($latents::INTEGER[]))
    GROUP BY latent, role, stratum
),
drawn AS (
    SELECT DISTINCT latent FROM held
),
compared AS (
    SELECT a.role, a.stratum, a.n AS n_asked, coalesce(h.n, 0) AS n_held
    FROM asked AS a
    CROSS JOIN drawn AS d
    LEFT JOIN held AS h ON d.latent = h.latent AND a.role = h.role AND a.stratum = h.stratum
)
SELECT
    role,
    stratum,
    count(*) AS n_latents,
    sum(n_held)::BIGINT AS n_examples,
    count(*) FILTER (WHERE n_held < n_asked) AS n_short,
    sum(greatest(n_asked - n_held, 0))::BIGINT AS n_missing
FROM compared
GROUP BY role, stratum
ORDER BY role, stratum
