-- name: audit/weights
-- Weights that would make an estimate wrong. Those of random windows, and of activating ones whose
-- draw gives each cell a fixed number, add up to their population; no weight is below 1; windows
-- that were chosen and not drawn by chance have none, nor have those of a draw from quantiles that
-- leaves some out. Must return no row.
-- param: capture      VARCHAR
-- param: hookpoint    VARCHAR
-- param: bucket       INTEGER
-- param: sample       VARCHAR
-- param: explain_draw VARCHAR
-- param: score_draw   VARCHAR
-- param: n_explain    BIGINT
-- param: n_score      BIGINT
-- param: n_quantiles  BIGINT
-- column: latent   INTEGER
-- column: problem  VARCHAR
-- column: found    DOUBLE
-- column: expected DOUBLE
-- grain: latent, problem
WITH cells AS (
    SELECT
        latent,
        role,
        stratum,
        CASE
            WHEN stratum <> 'activating' THEN stratum
            WHEN role = 'explain' THEN $explain_draw
            ELSE $score_draw
        END AS draw,
        CASE role WHEN 'explain' THEN $n_explain ELSE $n_score END AS n_asked,
        quantile,
        count(*) AS n,
        count(weight) AS n_weighed,
        min(weight) AS least,
        sum(weight) AS total,
        max(population) AS population
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
    GROUP BY latent, role, stratum, quantile
),
kinds AS (
    SELECT
        latent,
        role,
        stratum,
        draw,
        n_asked,
        sum(n)::BIGINT AS n,
        sum(n_weighed)::BIGINT AS n_weighed,
        min(least) AS least,
        sum(total) AS total,
        sum(population)::BIGINT AS population
    FROM cells
    GROUP BY latent, role, stratum, draw, n_asked
),
problems AS (
    SELECT latent, role, stratum, 'have weights without a chance' AS what,
        n_weighed::DOUBLE AS found, 0::DOUBLE AS expected
    FROM kinds
    WHERE n_weighed > 0
        AND (draw IN ('same_token', 'neighbour', 'similar')
            OR (draw = 'top' AND population > n_asked))
    UNION ALL
    SELECT latent, role, stratum, 'lack weights', n_weighed, n
    FROM kinds
    WHERE n_weighed < n
        AND (n_weighed > 0
            OR draw IN ('random', 'importance')
            OR (draw = 'quantiles' AND n_asked >= $n_quantiles))
    UNION ALL
    SELECT latent, role, stratum, 'have weights that do not add up', total, population
    FROM kinds
    WHERE n_weighed > 0 AND draw <> 'importance' AND abs(total - population) > 1e-6 * population
    UNION ALL
    SELECT latent, role, stratum, 'have weights that do not add up in quantile ' || quantile,
        total, population
    FROM cells
    WHERE draw = 'quantiles' AND abs(total - population) > 1e-6 * population
    UNION ALL
    SELECT latent, role, stratum, 'have weights below 1', least, 1
    FROM kinds
    WHERE least < 1 - 1e-9
)
SELECT latent, role || ' ' || stratum || ' ' || what AS problem, found, expected
FROM problems
ORDER BY latent, problem
