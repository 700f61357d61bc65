-- name: sampling/positives
-- The activating windows drawn for each latent and role, without replacement. Quantiles take
-- turns: each round takes one window of every quantile that still has some, so the number asked
-- for is met exactly whenever the role has it. $turns spreads what the last round holds.
-- A shown window puts its peak at $at, shifted inside the document and never padded. Two tiles
-- side by side can then show almost the same text: of two windows that overlap the later in the
-- draw waits until all others are taken, and a window equal to an earlier one is left out.
-- A quantile of which nothing is drawn adds its windows to the population of the nearest one of
-- which something is, the stronger of two: populations of a role sum to its windows.
-- param: n_explain     BIGINT
-- param: n_score       BIGINT
-- param: n_quantiles   BIGINT
-- param: turns         INTEGER[]   turn of each quantile within a round
-- param: window_tokens BIGINT
-- param: at            BIGINT      tokens before the peak; NULL shows the tile itself
-- column: latent     INTEGER
-- column: role       VARCHAR
-- column: quantile   INTEGER
-- column: population BIGINT    windows that the quantile stands for
-- column: draw       BIGINT    0-based order within the quantile
-- column: document   BIGINT
-- column: start      BIGINT
-- column: length     BIGINT
-- column: peak       FLOAT
-- column: peak_token BIGINT
-- grain: latent, role, start
CREATE OR REPLACE TEMP TABLE positives AS
WITH asked AS (
    SELECT
        latent,
        role,
        CASE role WHEN 'explain' THEN $n_explain ELSE $n_score END::BIGINT AS n,
        list(population) AS populations
    FROM cells
    GROUP BY latent, role
),
rounds AS (
    SELECT
        latent,
        role,
        n,
        coalesce(list_filter(range(1, n + 1), lambda r:
            list_sum(list_transform(populations, lambda p: least(p, r))) >= n)[1], n) AS n_rounds
    FROM asked
),
reserve AS (
    SELECT c.latent, c.role, c.quantile, r.n, c.keys[:2 * r.n_rounds + 2] AS keys
    FROM cells AS c
    INNER JOIN rounds AS r ON c.latent = r.latent AND c.role = r.role
),
candidates AS (
    SELECT
        latent,
        role,
        quantile,
        n,
        unnest(keys) % 2147483648 AS number,
        generate_subscripts(keys, 1) * $n_quantiles + $turns[quantile] AS place
    FROM reserve
),
shown AS (
    SELECT
        c.latent,
        c.role,
        c.quantile,
        c.n,
        c.place,
        t.document,
        t.first,
        w.peak,
        w.peak_token,
        CASE
            WHEN $at::BIGINT IS NULL THEN t.tile
            ELSE greatest(t.first, least(w.peak_token - $at::BIGINT, t.stop - $window_tokens))
        END AS start,
        CASE
            WHEN $at::BIGINT IS NULL THEN t.length
            ELSE least($window_tokens::BIGINT, t.stop - t.first)
        END AS length
    FROM candidates AS c
    INNER JOIN windows AS w ON c.latent = w.latent AND c.number = w.number
    INNER JOIN tiles AS t ON c.number = t.number
),
compared AS (
    SELECT
        *,
        min(place) OVER (PARTITION BY latent, start) < place AS is_equal,
        min(place) OVER (
            PARTITION BY latent, first
            ORDER BY start
            RANGE BETWEEN $window_tokens - 1 PRECEDING AND $window_tokens - 1 FOLLOWING
        ) < place AS is_late
    FROM shown
),
placed AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY latent, role, quantile ORDER BY is_late, place
        ) AS round
    FROM compared
    WHERE NOT is_equal
),
taken AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY latent, role ORDER BY is_late, round, $turns[quantile]
        ) AS rank
    FROM placed
),
drawn AS (
    SELECT DISTINCT latent, role, quantile FROM taken WHERE rank <= n
),
nearest AS (
    SELECT
        c.latent,
        c.role,
        c.population,
        d.quantile,
        row_number() OVER (
            PARTITION BY c.latent, c.role, c.quantile
            ORDER BY abs(d.quantile - c.quantile), d.quantile
        ) AS place
    FROM cells AS c
    INNER JOIN drawn AS d ON c.latent = d.latent AND c.role = d.role
),
stood_for AS (
    SELECT latent, role, quantile, sum(population)::BIGINT AS population
    FROM nearest
    WHERE place = 1
    GROUP BY latent, role, quantile
)
SELECT
    t.latent,
    t.role,
    t.quantile,
    s.population,
    t.round - 1 AS draw,
    t.document,
    t.start,
    t.length,
    t.peak,
    t.peak_token
FROM taken AS t
INNER JOIN stood_for AS s
    ON t.latent = s.latent AND t.role = s.role AND t.quantile = s.quantile
WHERE t.rank <= t.n
