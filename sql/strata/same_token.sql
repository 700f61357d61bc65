-- name: strata/same_token
-- Add to `candidates` tiles that hold a token id on which the latent peaks elsewhere and in which
-- it is silent. Token ids take turns by their share of the latent's peaks (the next tile goes to
-- the one with the most peaks for each tile it has been given); those of one token id follow the
-- ring from a slot of the latent's own, as far as should do (six standard deviations and ten
-- more). `population` counts the silent tiles that hold any of the token ids.
-- param: n_explain BIGINT
-- param: n_score   BIGINT
-- param: seed      BIGINT
-- column: Count BIGINT   candidates added
INSERT INTO candidates
WITH asked AS (
    SELECT unnest(['explain', 'score']) AS role, unnest([$n_explain, $n_score])::BIGINT AS n
),
held AS (
    SELECT p.latent, p.token_id, p.n_peaks, a.role, a.n, b.bits & ~f.bits & r.bits AS bits
    FROM peak_tokens AS p
    INNER JOIN token_bits AS b ON p.token_id = b.token_id
    INNER JOIN fired_bits AS f ON p.latent = f.latent
    CROSS JOIN asked AS a
    INNER JOIN role_bits AS r ON a.role = r.role
    WHERE a.n > 0
),
populations AS (
    SELECT latent, role, bit_count(bit_or(bits)) AS population FROM held GROUP BY latent, role
),
sought AS (
    SELECT
        latent,
        token_id,
        n_peaks,
        role,
        n,
        2 * n + 10 AS enough,
        bit_count(bits) AS n_silent,
        mix(mix($seed::BIGINT, -4), latent) >> 24 AS origin
    FROM held
),
walks AS (
    SELECT
        s.latent,
        s.token_id,
        s.n_peaks,
        s.role,
        s.n,
        s.enough,
        s.n_silent,
        min(p.id) AS base,
        coalesce(min(p.id) FILTER (WHERE p.slot >= s.origin), min(p.id)) AS begin,
        sum(p.n)::BIGINT AS n_tiles
    FROM sought AS s
    INNER JOIN spellings AS p ON s.token_id = p.token_id AND s.role = p.role
    WHERE s.n_silent > 0
    GROUP BY s.latent, s.token_id, s.n_peaks, s.role, s.n, s.enough, s.n_silent
),
steps AS (
    SELECT
        latent,
        token_id,
        n_peaks,
        role,
        n,
        enough,
        begin - base AS begin,
        base,
        n_tiles,
        unnest(range(least(
            n_tiles,
            ceil((enough + 6 * sqrt(enough) + 10) * n_tiles / n_silent)
        )::BIGINT)) AS step
    FROM walks
),
silent AS (
    SELECT
        s.latent,
        s.token_id,
        s.n_peaks,
        s.role,
        s.n,
        s.enough,
        t.number,
        t.token,
        row_number() OVER (PARTITION BY s.latent, s.role, s.token_id ORDER BY s.step) AS turn
    FROM steps AS s
    INNER JOIN spelled AS t ON s.base + (s.begin + s.step) % s.n_tiles = t.id
    ANTI JOIN windows AS w ON s.latent = w.latent AND t.number = w.number
    QUALIFY turn <= s.enough
),
once AS (
    SELECT latent, role, n, enough, number, token, turn / n_peaks AS turn, n_peaks, token_id
    FROM silent
    QUALIFY row_number() OVER (
        PARTITION BY latent, number ORDER BY turn / n_peaks, n_peaks DESC, token_id
    ) = 1
),
placed AS (
    SELECT
        latent,
        role,
        n,
        enough,
        number,
        token,
        row_number() OVER (
            PARTITION BY latent, role ORDER BY turn, n_peaks DESC, token_id
        ) - 1 AS place
    FROM once
)
SELECT
    p.latent,
    p.role,
    'same_token',
    p.n,
    p.number,
    p.token,
    NULL,
    NULL,
    c.population,
    p.place
FROM placed AS p
INNER JOIN populations AS c ON p.latent = c.latent AND p.role = c.role
WHERE p.place < p.enough
