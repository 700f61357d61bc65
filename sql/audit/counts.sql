-- name: audit/counts
-- Latents with more examples of one role and stratum than asked for, or that are not numbered from
-- 0 without a gap. Must return no row.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: sample    VARCHAR
-- param: roles     VARCHAR[]   what was asked for: role, stratum and number, element by element
-- param: strata    VARCHAR[]
-- param: n_asked   BIGINT[]
-- column: latent  INTEGER
-- column: problem VARCHAR
-- column: n       BIGINT
-- grain: latent, problem
WITH asked AS (
    SELECT unnest($roles) AS role, unnest($strata) AS stratum, unnest($n_asked::BIGINT[]) AS n
),
drawn AS (
    SELECT latent, example, role, stratum
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
),
held AS (
    SELECT latent, role, stratum, count(*) AS n FROM drawn GROUP BY latent, role, stratum
),
surplus AS (
    SELECT h.latent, 'too many: ' || h.role || ' ' || h.stratum AS problem, h.n
    FROM held AS h
    LEFT JOIN asked AS a ON h.role = a.role AND h.stratum = a.stratum
    WHERE h.n > coalesce(a.n, 0)
),
gaps AS (
    SELECT latent, 'examples are not numbered 0 to n - 1' AS problem, count(*) AS n
    FROM drawn
    GROUP BY latent
    HAVING min(example) <> 0 OR max(example) <> count(*) - 1 OR count(DISTINCT example) <> count(*)
)
SELECT latent, problem, n FROM surplus
UNION ALL
SELECT latent, problem, n FROM gaps
ORDER BY latent, problem
