-- name: score/simulation
-- How well the activations that a judge predicted from an explanation follow the measured ones, each
-- metric with a 95 % interval.
--
-- correlation: Pearson's, over all tokens of all windows (the score of Bills et al. 2023, Language
-- models can explain neurons in language models). correlation_centred: the same after the mean over
-- the windows at each place of the window is taken from both, so that a prediction from the place
-- alone has 0. correlation_window: its mean over the windows in which the latent fires.
-- correlation_natural: over tokens of activating and random windows, every
-- window as often as it stands for in the corpus; NULL without either kind. A prediction that never
-- varies correlates with nothing: 0. r_squared, deviation_explained: 1 - sum (y - f)^2 /
-- sum (y - m)^2 and 1 - sum |y - f| / sum |y - m| over all tokens, where f, linear in the
-- prediction, and the mean m come from the windows of the other half of the documents; 0 for a
-- prediction that says nothing, below 0 for one that misleads.
--
-- Intervals: jackknife over documents, whose windows are not independent, on a scale that is nearly
-- normal (Fisher's z for a correlation, the logarithm of the ratio for what is explained), with
-- Student's t. The fitted line is held while documents are left out, and few documents do not show
-- how heavy the tails are: of the five, the limits of r_squared are the least sure, 89 to 92 % for 5
-- to 20 documents (benchmarks/simulation_intervals.py). NULL for fewer than three documents, and
-- where one document alone decides.
-- column: latent          INTEGER
-- column: explanation     VARCHAR
-- column: role            VARCHAR
-- column: metric          VARCHAR
-- column: value           DOUBLE
-- column: ci_low          DOUBLE
-- column: ci_high         DOUBLE
-- column: n               BIGINT    windows that the judge predicted
-- column: n_failed        BIGINT
-- column: lower_is_better BOOLEAN
-- grain: latent, explanation, metric
WITH windows AS (
    SELECT
        i.latent, i.explanation, i.item, e.document, e.stratum, e.quantile,
        i."values"::DOUBLE[] AS predicted, e."values"::DOUBLE[] AS measured,
        coalesce(e.weight, e.population::DOUBLE) AS weight,
        mix(1::BIGINT, e.document) % 2 AS half
    FROM items AS i
    JOIN explanations AS x ON x.explanation = i.explanation
    JOIN examples AS e
        ON e.capture = x.capture
        AND e.hookpoint = x.hookpoint
        AND e.sample = x.sample
        AND e.latent = i.latent
        AND e.example = i.example
    WHERE i.is_judged
),
-- A cell's windows share what all the windows drawn from its stratum and quantile stand for.
drawn AS (
    SELECT
        e.latent, e.sample, e.stratum, e.quantile,
        CASE WHEN count(e.weight) = 0 THEN max(e.population)::DOUBLE ELSE sum(e.weight ORDER BY e.example) END AS whole
    FROM examples AS e
    WHERE e.role = 'score'
        AND e.stratum IN ('activating', 'random')
        AND (e.capture, e.hookpoint, e.sample, e.latent) IN (
            SELECT (x.capture, x.hookpoint, x.sample, i.latent)
            FROM items AS i
            JOIN explanations AS x ON x.explanation = i.explanation
        )
    GROUP BY e.capture, e.hookpoint, e.latent, e.sample, e.stratum, e.quantile
),
cells AS (
    SELECT
        w.latent, w.explanation, w.stratum, w.quantile, any_value(d.whole) AS whole,
        sum(w.weight ORDER BY w.item) AS judged
    FROM windows AS w
    JOIN explanations AS x ON x.explanation = w.explanation
    JOIN drawn AS d
        ON d.latent = w.latent
        AND d.sample = x.sample
        AND d.stratum = w.stratum
        AND d.quantile IS NOT DISTINCT FROM w.quantile
    GROUP BY w.latent, w.explanation, w.stratum, w.quantile
),
strata AS (
    SELECT c.latent, c.explanation, c.stratum,
        CASE WHEN count(*) OVER (PARTITION BY c.latent, c.explanation) = 2 THEN
            (SELECT sum(d.whole ORDER BY d.quantile) FROM drawn AS d
                WHERE d.latent = c.latent AND d.stratum = c.stratum
                    AND d.sample = any_value(x.sample))
                / sum(c.whole ORDER BY c.quantile) END AS blown_up
    FROM cells AS c
    JOIN explanations AS x ON x.explanation = c.explanation
    GROUP BY c.latent, c.explanation, c.stratum
),
-- Sums over the tokens of one window. The lists are summed row by row, so that the same rows give
-- the same digits every time.
sums AS (
    SELECT
        w.latent, w.explanation, w.item, w.document, w.half, w.predicted, w.measured,
        w.weight / c.judged * c.whole * s.blown_up AS stands_for,
        len(w.predicted)::DOUBLE AS n, list_sum(w.predicted) AS p, list_sum(w.measured) AS y,
        list_dot_product(w.predicted, w.predicted) AS pp,
        list_dot_product(w.measured, w.measured) AS yy,
        list_dot_product(w.predicted, w.measured) AS py
    FROM windows AS w
    LEFT JOIN cells AS c
        ON c.latent = w.latent
        AND c.explanation = w.explanation
        AND c.stratum = w.stratum
        AND c.quantile IS NOT DISTINCT FROM w.quantile
    LEFT JOIN strata AS s
        ON s.latent = w.latent AND s.explanation = w.explanation AND s.stratum = w.stratum
),
-- Peaks stand at about one place of most windows, which a judge may come to know: here the mean at
-- each place is taken away. Rounded, so that what does not vary is exactly zero.
places AS (
    SELECT latent, explanation, item, document, unnest(predicted) AS p, unnest(measured) AS y,
        unnest(range(1, len(predicted) + 1)) AS place
    FROM sums
),
centred AS (
    SELECT latent, explanation, item, document, place,
        round(p - avg(p) OVER alike, 9) AS p, round(y - avg(y) OVER alike, 9) AS y
    FROM places
    WINDOW alike AS (
        PARTITION BY latent, explanation, place ORDER BY item
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
halves AS (
    SELECT latent, explanation, half, sum(n) AS n, sum(p ORDER BY item) AS p,
        sum(y ORDER BY item) AS y, sum(pp ORDER BY item) AS pp, sum(py ORDER BY item) AS py
    FROM sums
    GROUP BY latent, explanation, half
),
lines AS (
    SELECT latent, explanation, half, p / n AS mean_p, y / n AS mean,
        CASE WHEN pp - p ** 2 / n <= 1e-12 * pp THEN 0
            ELSE (py - p * y / n) / (pp - p ** 2 / n) END AS slope
    FROM halves
),
residuals AS (
    SELECT
        w.latent, w.explanation, w.item, w.document,
        list_transform(range(1, len(w.predicted) + 1),
            lambda i: w.measured[i] - l.mean - l.slope * (w.predicted[i] - l.mean_p)) AS left_over,
        list_transform(w.measured, lambda y: y - l.mean) AS varied
    FROM sums AS w
    JOIN lines AS l ON l.latent = w.latent AND l.explanation = w.explanation AND l.half <> w.half
),
explained AS (
    SELECT
        latent, explanation, document,
        sum(list_dot_product(left_over, left_over) ORDER BY item) AS squares,
        sum(list_dot_product(varied, varied) ORDER BY item) AS base_squares,
        sum(list_sum(list_transform(left_over, lambda x: abs(x))) ORDER BY item) AS deviations,
        sum(list_sum(list_transform(varied, lambda x: abs(x))) ORDER BY item) AS base_deviations
    FROM residuals
    GROUP BY latent, explanation, document
),
-- One row a document and metric: what is left of each sum without the document.
correlated AS (
    SELECT latent, explanation, item, document, 'correlation' AS metric, n, p, y, pp, yy, py
    FROM sums
    UNION ALL
    SELECT latent, explanation, item, document, 'correlation_natural', n * stands_for,
        p * stands_for, y * stands_for, pp * stands_for, yy * stands_for, py * stands_for
    FROM sums
    WHERE stands_for IS NOT NULL
    UNION ALL
    SELECT latent, explanation, item, document, 'correlation_centred', count(*),
        sum(p ORDER BY place), sum(y ORDER BY place), sum(p * p ORDER BY place),
        sum(y * y ORDER BY place), sum(p * y ORDER BY place)
    FROM centred
    GROUP BY latent, explanation, item, document
),
by_document AS (
    SELECT latent, explanation, metric, document, sum(n ORDER BY item) AS n,
        sum(p ORDER BY item) AS p, sum(y ORDER BY item) AS y, sum(pp ORDER BY item) AS pp,
        sum(yy ORDER BY item) AS yy, sum(py ORDER BY item) AS py
    FROM correlated
    GROUP BY latent, explanation, metric, document
),
left_out AS (
    SELECT
        latent, explanation, metric, document,
        sum(n) OVER others AS n, sum(p) OVER others AS p, sum(y) OVER others AS y,
        sum(pp) OVER others AS pp, sum(yy) OVER others AS yy, sum(py) OVER others AS py
    FROM by_document
    WINDOW others AS (
        PARTITION BY latent, explanation, metric ORDER BY document
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW
    )
    UNION ALL
    SELECT latent, explanation, metric, NULL, sum(n ORDER BY document), sum(p ORDER BY document),
        sum(y ORDER BY document), sum(pp ORDER BY document), sum(yy ORDER BY document),
        sum(py ORDER BY document)
    FROM by_document
    GROUP BY latent, explanation, metric
),
ratios_left AS (
    SELECT latent, explanation, document,
        sum(squares) OVER others AS squares, sum(base_squares) OVER others AS base_squares,
        sum(deviations) OVER others AS deviations,
        sum(base_deviations) OVER others AS base_deviations
    FROM explained
    WINDOW others AS (
        PARTITION BY latent, explanation ORDER BY document
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING EXCLUDE CURRENT ROW
    )
    UNION ALL
    SELECT latent, explanation, NULL, sum(squares ORDER BY document),
        sum(base_squares ORDER BY document), sum(deviations ORDER BY document),
        sum(base_deviations ORDER BY document)
    FROM explained
    GROUP BY latent, explanation
),
-- On the scale on which the interval is made; `document` is the one left out, NULL for none.
scaled AS (
    SELECT latent, explanation, metric, document,
        CASE
            WHEN yy - y ** 2 / n <= 1e-12 * yy THEN NULL
            WHEN pp - p ** 2 / n <= 1e-12 * pp THEN 0
            ELSE atanh(greatest(-0.9999999, least(0.9999999,
                (py - p * y / n) / sqrt((pp - p ** 2 / n) * (yy - y ** 2 / n)))))
        END AS z
    FROM left_out
    UNION ALL
    SELECT latent, explanation, 'r_squared', document,
        ln(greatest(1e-12, squares / nullif(base_squares, 0)))
    FROM ratios_left
    UNION ALL
    SELECT latent, explanation, 'deviation_explained', document,
        ln(greatest(1e-12, deviations / nullif(base_deviations, 0)))
    FROM ratios_left
),
jackknife AS (
    SELECT
        latent, explanation, metric,
        max(z) FILTER (document IS NULL) AS z,
        count(*) FILTER (document IS NOT NULL) AS n_documents,
        CASE WHEN count(z) = count(*) AND count(*) > 3 THEN
            sqrt((count(z) - 2)
                * var_pop(z ORDER BY document) FILTER (document IS NOT NULL)) END AS error
    FROM scaled
    GROUP BY latent, explanation, metric
),
-- Of each window in which the latent fires; one document's windows are one draw.
of_windows AS (
    SELECT latent, explanation, item, document,
        CASE WHEN pp - p ** 2 / n <= 1e-12 * pp THEN 0
            ELSE (py - p * y / n) / sqrt((pp - p ** 2 / n) * (yy - y ** 2 / n)) END AS correlation
    FROM sums
    WHERE yy - y ** 2 / n > 1e-12 * yy
),
window_means AS (
    SELECT latent, explanation, avg(correlation ORDER BY item) AS mean, count(*) AS n,
        count(DISTINCT document) AS n_documents
    FROM of_windows
    GROUP BY latent, explanation
),
window_errors AS (
    SELECT o.latent, o.explanation, o.document,
        sum(o.correlation - m.mean ORDER BY o.item) AS excess
    FROM of_windows AS o
    JOIN window_means AS m ON m.latent = o.latent AND m.explanation = o.explanation
    GROUP BY o.latent, o.explanation, o.document
),
estimates AS (
    SELECT latent, explanation, metric, z, nullif(error, 0) AS error, n_documents - 1 AS freedom
    FROM jackknife
    UNION ALL
    SELECT m.latent, m.explanation, 'correlation_window', any_value(m.mean),
        CASE WHEN any_value(m.n_documents) >= 3 THEN nullif(sqrt(
            any_value(m.n_documents) / (any_value(m.n_documents) - 1) * sum(e.excess ** 2 ORDER BY e.document)
        ) / any_value(m.n), 0) END,
        any_value(m.n_documents) - 1
    FROM window_means AS m
    JOIN window_errors AS e ON e.latent = m.latent AND e.explanation = m.explanation
    GROUP BY m.latent, m.explanation
),
limited AS (
    SELECT latent, explanation, metric, z, error * student(freedom) AS reach
    FROM estimates
),
counted AS (
    SELECT latent, explanation, role, count(*) FILTER (is_judged) AS n,
        count(*) FILTER (has_failed) AS n_failed
    FROM items
    GROUP BY latent, explanation, role
),
every AS (
    SELECT latent, explanation, role, n, n_failed,
        unnest(['correlation', 'correlation_centred', 'correlation_window',
            'correlation_natural', 'r_squared', 'deviation_explained']) AS metric
    FROM counted
)
SELECT
    v.latent, v.explanation, v.role, v.metric,
    CASE WHEN v.metric IN ('correlation', 'correlation_centred', 'correlation_natural')
        THEN tanh(l.z)
        WHEN v.metric = 'correlation_window' THEN l.z
        ELSE 1 - exp(l.z) END AS "value",
    CASE WHEN v.metric IN ('correlation', 'correlation_centred', 'correlation_natural')
        THEN tanh(l.z - l.reach)
        WHEN v.metric = 'correlation_window'
            THEN if(l.reach IS NULL, NULL, greatest(-1, l.z - l.reach))
        ELSE 1 - exp(l.z + l.reach) END AS ci_low,
    CASE WHEN v.metric IN ('correlation', 'correlation_centred', 'correlation_natural')
        THEN tanh(l.z + l.reach)
        WHEN v.metric = 'correlation_window'
            THEN if(l.reach IS NULL, NULL, least(1, l.z + l.reach))
        ELSE 1 - exp(l.z - l.reach) END AS ci_high,
    v.n::BIGINT AS n, v.n_failed::BIGINT AS n_failed, false AS lower_is_better
FROM every AS v
LEFT JOIN limited AS l USING (latent, explanation, metric)
