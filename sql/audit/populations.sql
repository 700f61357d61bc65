-- name: audit/populations
-- Latents whose populations do not add up to the corpus. A role's quantiles and its silent tiles
-- together are its tiles; both roles' quantiles are the latent's windows, also if some of them
-- have no example; both roles' silent tiles the rest of the corpus. Where silent tiles have no
-- example and so are not known, the sum must not be larger. Must return no row.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: sample    VARCHAR
-- column: latent   INTEGER
-- column: problem  VARCHAR
-- column: found    BIGINT
-- column: expected BIGINT
-- grain: latent, problem
WITH cells AS (
    SELECT
        latent,
        role,
        stratum,
        quantile,
        count(*) AS n,
        count(population) AS n_known,
        min(population) AS population,
        max(population) AS largest
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
    GROUP BY latent, role, stratum, quantile
),
sizes AS (
    SELECT role, count(*) AS n_tiles FROM tiles GROUP BY role
),
known AS (
    SELECT latent, n_windows FROM latents WHERE capture = $capture AND hookpoint = $hookpoint
),
by_role AS (
    SELECT
        latent,
        role,
        sum(population)::BIGINT AS found,
        bool_or(stratum = 'random') AS is_whole
    FROM cells
    WHERE stratum IN ('activating', 'random')
    GROUP BY latent, role
),
by_stratum AS (
    SELECT
        latent,
        stratum,
        sum(population)::BIGINT AS found,
        count(*) = 2 AS is_whole
    FROM cells
    GROUP BY latent, stratum
),
problems AS (
    SELECT latent, 'fewer windows than examples: ' || role || ' ' || stratum AS problem,
        min(population) AS found, max(n) AS expected
    FROM cells
    WHERE population < n
        OR population <> largest
        OR (n_known < n AND stratum IN ('activating', 'random'))
    GROUP BY latent, role, stratum
    UNION ALL
    SELECT r.latent, 'tiles of the role ' || r.role, r.found, s.n_tiles
    FROM by_role AS r
    LEFT JOIN sizes AS s ON r.role = s.role
    WHERE s.n_tiles IS NULL
        OR r.found > s.n_tiles
        OR (r.is_whole AND r.found <> s.n_tiles)
    UNION ALL
    SELECT b.latent, 'windows of the latent', b.found, k.n_windows
    FROM by_stratum AS b
    INNER JOIN known AS k ON b.latent = k.latent
    WHERE b.stratum = 'activating' AND b.found <> k.n_windows
    UNION ALL
    SELECT b.latent, 'silent tiles of the latent', b.found, t.n_tiles - k.n_windows
    FROM by_stratum AS b
    INNER JOIN known AS k ON b.latent = k.latent
    CROSS JOIN (SELECT count(*) AS n_tiles FROM tiles) AS t
    WHERE b.stratum = 'random'
        AND (b.found > t.n_tiles - k.n_windows
            OR (b.is_whole AND b.found <> t.n_tiles - k.n_windows))
)
SELECT latent, problem, found, expected
FROM problems
ORDER BY latent, problem
