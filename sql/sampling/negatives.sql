-- name: sampling/negatives
-- Windows on which the latent is silent, for each latent and role: the first silent tiles on its
-- walk round the ring, so uniform over them and without replacement. Each is shown as an
-- activating window would be, about a random token of the tile in place of the peak, and slid
-- until no activation is in sight; a tile beside which no window of full length is silent is
-- passed over, since a short one would give the answer away. Overlaps wait as in the positives.
-- param: n_cells       BIGINT
-- param: window_tokens BIGINT
-- param: at            BIGINT   tokens before the chosen token; NULL shows the tile itself
-- param: seed          BIGINT
-- column: latent     INTEGER
-- column: role       VARCHAR
-- column: population BIGINT
-- column: draw       BIGINT
-- column: document   BIGINT
-- column: start      BIGINT
-- column: length     BIGINT
-- grain: latent, role, start
CREATE OR REPLACE TEMP TABLE negatives AS
WITH crossed AS (
    SELECT
        latent,
        role,
        n,
        population,
        origin,
        arc,
        unnest(range(
            (origin * $n_cells) >> 32,
            least(((origin + arc) * $n_cells) >> 32, ((origin * $n_cells) >> 32) + $n_cells - 1) + 1
        )) % $n_cells AS cell
    FROM walks
),
candidates AS (
    SELECT
        c.latent,
        c.role,
        c.n,
        c.population,
        r.number,
        (r.ring - c.origin + 4294967296) % 4294967296 AS distance
    FROM crossed AS c
    INNER JOIN ring AS r ON c.cell = r.cell AND c.role = r.role
    WHERE (r.ring - c.origin + 4294967296) % 4294967296 < c.arc
),
around AS (
    SELECT latent, number, number + unnest([-1, 0, 1]) AS beside FROM candidates
),
met AS (
    SELECT
        a.latent,
        a.number,
        max(w.last_token) FILTER (WHERE a.beside < a.number) AS before,
        min(w.first_token) FILTER (WHERE a.beside > a.number) AS after,
        coalesce(bool_or(a.beside = a.number), false) AS is_active
    FROM around AS a
    INNER JOIN windows AS w ON a.latent = w.latent AND a.beside = w.number
    GROUP BY a.latent, a.number
),
silent AS (
    SELECT
        c.latent,
        c.role,
        c.n,
        c.population,
        c.number,
        c.distance,
        t.tile,
        t.first,
        t.document,
        t.length AS tile_length,
        least($window_tokens::BIGINT, t.stop - t.first) AS length,
        greatest(t.first, m.before + 1) AS low,
        least(t.stop, m.after) AS high,
        t.tile + mix(mix(mix($seed::BIGINT, -3), c.latent), t.tile) % t.length AS token
    FROM candidates AS c
    INNER JOIN tiles AS t ON c.number = t.number
    LEFT JOIN met AS m ON c.latent = m.latent AND c.number = m.number
    WHERE m.is_active IS NOT true AND ($at::BIGINT IS NULL OR least(t.stop, m.after)
        - greatest(t.first, m.before + 1) >= least($window_tokens::BIGINT, t.stop - t.first))
),
shown AS (
    SELECT
        latent,
        role,
        n,
        population,
        number,
        distance,
        first,
        document,
        CASE
            WHEN $at::BIGINT IS NULL THEN tile
            ELSE greatest(low, least(token - $at::BIGINT, high - length))
        END AS start,
        CASE WHEN $at::BIGINT IS NULL THEN tile_length ELSE length END AS length
    FROM silent
),
walked AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY latent, role ORDER BY distance, number) AS place
    FROM shown
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
    FROM walked
),
taken AS (
    SELECT
        *,
        row_number() OVER (PARTITION BY latent, role ORDER BY is_late, place) AS rank
    FROM compared
    WHERE NOT is_equal
)
SELECT latent, role, population, rank - 1 AS draw, document, start, length
FROM taken
WHERE rank <= n
