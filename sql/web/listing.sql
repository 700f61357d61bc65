-- name: web/listing
-- One page of a list of latents: of those that pass every filter the first $n_rows behind a key and
-- a turn, in the order of $sort; a filter that is NULL lets all pass. Reads `shelf_numbers` and
-- `shelf_texts`, which hold the results of web/numbers and web/texts. $sign is 1 to go forwards and
-- -1 to go backwards; keys and turns are multiplied by it. Always at least one row, for the counts.
-- param: pair         INTEGER
-- param: first_place  BIGINT
-- param: last_place   BIGINT
-- param: statuses     VARCHAR[]   empty takes all
-- param: density_low  DOUBLE
-- param: density_high DOUBLE
-- param: score_low    DOUBLE
-- param: score_high   DOUBLE
-- param: width_high   DOUBLE      of the interval
-- param: p_high       DOUBLE
-- param: word_1       VARCHAR     to be found in a text, '' for none
-- param: word_2       VARCHAR
-- param: word_3       VARCHAR
-- param: word_4       VARCHAR
-- param: sort         VARCHAR     best, worst, low, corrected, width, p, density, rare, max or number
-- param: sign         INTEGER
-- param: after_key    DOUBLE
-- param: after_turn   BIGINT
-- param: n_rows       BIGINT
-- column: n_matching    BIGINT    latents that pass
-- column: n_passed      BIGINT    of those, up to the key and turn
-- column: key           DOUBLE
-- column: place         BIGINT    NULL if the page is empty
-- column: status        VARCHAR
-- column: density       DOUBLE
-- column: max           FLOAT
-- column: n_activations BIGINT
-- column: value         DOUBLE
-- column: ci_low        DOUBLE
-- column: ci_high       DOUBLE
-- column: n             BIGINT
-- column: n_failed      BIGINT
-- column: null_value    DOUBLE
-- column: corrected     DOUBLE
-- column: p_value       DOUBLE
-- column: score_status  VARCHAR
-- grain: place
WITH found AS MATERIALIZED (
    SELECT place
    FROM shelf_texts
    WHERE $word_1 <> ''
        AND contains(haystack, lower($word_1))
        AND contains(haystack, lower($word_2))
        AND contains(haystack, lower($word_3))
        AND contains(haystack, lower($word_4))
),
matching AS MATERIALIZED (
    SELECT
        place,
        $sign * coalesce(
            CASE $sort
                WHEN 'best' THEN -"value"
                WHEN 'worst' THEN "value"
                WHEN 'low' THEN -ci_low
                WHEN 'corrected' THEN -corrected
                WHEN 'width' THEN ci_high - ci_low
                WHEN 'p' THEN p_value
                WHEN 'density' THEN -density
                WHEN 'rare' THEN density
                WHEN 'max' THEN -max::DOUBLE
                ELSE 0
            END,
            'infinity'::DOUBLE
        ) AS key
    FROM shelf_numbers
    WHERE pair = $pair
        AND place BETWEEN $first_place AND $last_place
        AND (len($statuses::VARCHAR[]) = 0 OR list_contains($statuses, status))
        AND ($density_low IS NULL OR density >= $density_low)
        AND ($density_high IS NULL OR density <= $density_high)
        AND ($score_low IS NULL OR "value" >= $score_low)
        AND ($score_high IS NULL OR "value" <= $score_high)
        AND ($width_high IS NULL OR ci_high - ci_low <= $width_high)
        AND ($p_high IS NULL OR p_value <= $p_high)
        AND ($word_1 = '' OR place IN (SELECT place FROM found))
),
counts AS (
    SELECT
        count(*) AS n_matching,
        count(*) FILTER (
            key < $after_key OR key = $after_key AND $sign * place <= $after_turn
        ) AS n_passed
    FROM matching
),
page AS (
    SELECT place, key
    FROM matching
    WHERE key > $after_key OR key = $after_key AND $sign * place > $after_turn
    ORDER BY key, $sign * place
    LIMIT $n_rows
),
shown AS (
    SELECT
        p.key, p.place, n.status, n.density, n.max, n.n_activations, n."value", n.ci_low,
        n.ci_high, n.n, n.n_failed, n.null_value, n.corrected, n.p_value, n.score_status
    FROM page AS p
    JOIN shelf_numbers AS n ON n.pair = $pair AND n.place = p.place
)
SELECT
    c.n_matching, c.n_passed, s.key, s.place, s.status, s.density, s.max, s.n_activations,
    s."value", s.ci_low, s.ci_high, s.n, s.n_failed, s.null_value, s.corrected, s.p_value,
    s.score_status
FROM counts AS c
LEFT JOIN shown AS s ON true
ORDER BY s.key, $sign * s.place
