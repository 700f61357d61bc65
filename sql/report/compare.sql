-- name: report/compare
-- Two runs of a lake, metric by metric: means over latents, each latent counted once (`macro`) or
-- by how often it fires (`frequency`), their difference b - a, and its bootstrap interval over
-- latents. $paired takes the latents that both have a value of and draws them together; otherwise
-- each side has its own latents and its own draws.
--
-- Latents are dealt into at most 256 groups by a random number of $seed, which are drawn with
-- replacement 1000 times: up to 256 latents this is the bootstrap over latents, above it the draws
-- keep its variance (a bootstrap of random groups). Integer arithmetic decides every draw, so that
-- the same scores give the same interval on every machine. The limits are the $tail quantiles.
-- param: capture_a   VARCHAR
-- param: explainer_a VARCHAR
-- param: made_a      VARCHAR
-- param: scorer_a    VARCHAR
-- param: settings_a  VARCHAR
-- param: capture_b   VARCHAR
-- param: explainer_b VARCHAR
-- param: made_b      VARCHAR
-- param: scorer_b    VARCHAR
-- param: settings_b  VARCHAR
-- param: hookpoints  VARCHAR[]   empty takes all
-- param: metrics     VARCHAR[]   empty takes all
-- param: paired      BOOLEAN
-- param: tail        DOUBLE      2.5 % for many latents, less for few
-- param: seed        BIGINT
-- column: metric     VARCHAR
-- column: mean       VARCHAR   macro or frequency
-- column: n_a        BIGINT    latents
-- column: n_b        BIGINT
-- column: alone_a    BIGINT    latents left out, since this side alone has a value; NULL unless paired
-- column: alone_b    BIGINT
-- column: a          DOUBLE
-- column: b          DOUBLE
-- column: difference DOUBLE
-- column: low        DOUBLE
-- column: high       DOUBLE
-- column: n_better   BIGINT    latents that b scores higher; NULL unless paired
-- column: n_worse    BIGINT
-- column: above_a    BIGINT    of all latents of the side, above the null at a discovery rate of 5 %
-- column: above_b    BIGINT
-- column: failed_a   DOUBLE    share of the items that failed
-- column: failed_b   DOUBLE
-- grain: metric, mean
WITH wanted AS (
    SELECT 'a' AS side, $capture_a AS capture, $explainer_a AS explainer, $made_a AS made,
        $scorer_a AS scorer, $settings_a AS settings
    UNION ALL
    SELECT 'b', $capture_b, $explainer_b, $made_b, $scorer_b, $settings_b
),
standing AS (
    SELECT w.side, s.hookpoint, s.latent, s.metric, s."value", s.n, s.n_failed, s.p_value,
        coalesce(l.n_activations, 0)::DOUBLE AS n_activations
    FROM wanted AS w
    JOIN scores AS s
        ON s.capture = w.capture AND s.scorer = w.scorer AND s.settings = w.settings
    JOIN explanations AS e
        ON e.capture = s.capture AND e.hookpoint = s.hookpoint AND e.explanation = s.explanation
            AND e.explainer = w.explainer AND e.settings = w.made
    LEFT JOIN latents AS l
        ON l.capture = s.capture AND l.hookpoint = s.hookpoint AND l.latent = s.latent
    WHERE (len($hookpoints::VARCHAR[]) = 0 OR list_contains($hookpoints, s.hookpoint))
        AND (len($metrics::VARCHAR[]) = 0 OR list_contains($metrics, s.metric))
    QUALIFY row_number() OVER (
        PARTITION BY w.side, s.hookpoint, s.latent, s.metric
        ORDER BY e.created_at DESC NULLS LAST, s.explanation
    ) = 1
),
-- Benjamini and Hochberg 1995, within a hookpoint.
rated AS (
    SELECT side, metric, hookpoint, p_value,
        p_value * count(*) OVER (PARTITION BY side, metric, hookpoint)
            / count(*) OVER (PARTITION BY side, metric, hookpoint ORDER BY p_value) AS rate
    FROM standing
    WHERE p_value IS NOT NULL
),
lasts AS (
    SELECT side, metric, hookpoint, max(p_value) FILTER (rate <= 0.05) AS last_p
    FROM rated
    GROUP BY side, metric, hookpoint
),
discoveries AS (
    SELECT metric,
        count(*) FILTER (side = 'a' AND p_value <= last_p) AS above_a,
        count(*) FILTER (side = 'b' AND p_value <= last_p) AS above_b
    FROM rated
    JOIN lasts USING (side, metric, hookpoint)
    GROUP BY metric
),
valued AS (
    SELECT *, count(*) OVER (PARTITION BY hookpoint, latent, metric) AS n_sides
    FROM standing
    WHERE "value" IS NOT NULL
),
kept AS (
    SELECT side, hookpoint, latent, metric, "value", n, n_failed, n_activations
    FROM valued
    WHERE n_sides = 2 OR NOT $paired
),
lone AS (
    SELECT metric,
        count(*) FILTER (side = 'a' AND n_sides = 1) AS alone_a,
        count(*) FILTER (side = 'b' AND n_sides = 1) AS alone_b
    FROM valued
    GROUP BY metric
),
places AS (
    SELECT hookpoint, latent,
        row_number() OVER (
            ORDER BY mix($seed::BIGINT, hash_of), latent, hookpoint
        ) % 256 AS block
    FROM (
        SELECT hookpoint, latent, latent::BIGINT * 4096 + dense_rank() OVER (ORDER BY hookpoint)
            AS hash_of
        FROM (SELECT DISTINCT hookpoint, latent FROM kept)
    )
),
-- Frequencies of a pair are those of side a, so that both sides weigh the same.
weighed AS (
    SELECT k.side, k.metric, p.block, k."value",
        CASE WHEN $paired THEN max(k.n_activations) FILTER (k.side = 'a')
            OVER (PARTITION BY k.hookpoint, k.latent, k.metric) ELSE k.n_activations END AS weight
    FROM kept AS k
    JOIN places AS p USING (hookpoint, latent)
),
sums AS (
    SELECT metric, 'macro' AS mean, side, block, sum("value" ORDER BY "value") AS total,
        count(*)::DOUBLE AS weight
    FROM weighed
    GROUP BY metric, side, block
    UNION ALL
    SELECT metric, 'frequency', side, block, sum("value" * weight ORDER BY "value", weight),
        sum(weight ORDER BY weight)
    FROM weighed
    GROUP BY metric, side, block
),
-- The blocks that a metric has, numbered, once for a pair or once a side.
numbered AS (
    SELECT metric, mean, side, block, total, weight,
        dense_rank() OVER w - 1 AS place
    FROM sums
    WINDOW w AS (
        PARTITION BY metric, mean, CASE WHEN $paired THEN '' ELSE side END ORDER BY block
    )
),
sized AS (
    SELECT metric, mean, side, max(place) + 1 AS n_blocks FROM numbered GROUP BY metric, mean, side
),
sizes AS (
    SELECT DISTINCT n_blocks, CASE WHEN $paired THEN 'a' ELSE side END AS drawn_for FROM sized
),
draws AS (
    SELECT s.n_blocks, s.drawn_for, r.draw,
        (mix(mix($seed::BIGINT + CASE s.drawn_for WHEN 'a' THEN 1 ELSE 2 END, r.draw::BIGINT),
            i.turn::BIGINT) * s.n_blocks) >> 32 AS place
    FROM sizes AS s
    CROSS JOIN range(1000) AS r(draw)
    CROSS JOIN range(256) AS i(turn)
    WHERE i.turn < s.n_blocks
),
times AS (
    SELECT n_blocks, drawn_for, draw, place, count(*) AS n
    FROM draws
    GROUP BY n_blocks, drawn_for, draw, place
),
redrawn AS (
    SELECT u.metric, u.mean, t.draw,
        sum(t.n * u.total ORDER BY u.place) FILTER (u.side = 'b')
            / nullif(sum(t.n * u.weight ORDER BY u.place) FILTER (u.side = 'b'), 0)
        - sum(t.n * u.total ORDER BY u.place) FILTER (u.side = 'a')
            / nullif(sum(t.n * u.weight ORDER BY u.place) FILTER (u.side = 'a'), 0) AS difference
    FROM numbered AS u
    JOIN sized AS s USING (metric, mean, side)
    JOIN times AS t
        ON t.n_blocks = s.n_blocks AND t.place = u.place
            AND t.drawn_for = CASE WHEN $paired THEN 'a' ELSE u.side END
    GROUP BY u.metric, u.mean, t.draw
),
limits AS (
    SELECT metric, mean, quantile_cont(difference, $tail) AS low,
        quantile_cont(difference, 1 - $tail) AS high
    FROM redrawn
    GROUP BY metric, mean
),
means AS (
    SELECT metric, mean,
        sum(total ORDER BY block) FILTER (side = 'a')
            / nullif(sum(weight ORDER BY block) FILTER (side = 'a'), 0) AS a,
        sum(total ORDER BY block) FILTER (side = 'b')
            / nullif(sum(weight ORDER BY block) FILTER (side = 'b'), 0) AS b
    FROM sums
    GROUP BY metric, mean
),
compared AS (
    SELECT metric,
        count(*) FILTER (higher) AS n_better,
        count(*) FILTER (lower) AS n_worse
    FROM (
        SELECT metric,
            max("value") FILTER (side = 'b') > max("value") FILTER (side = 'a') AS higher,
            max("value") FILTER (side = 'b') < max("value") FILTER (side = 'a') AS lower
        FROM kept
        GROUP BY hookpoint, latent, metric
    )
    GROUP BY metric
),
counted AS (
    SELECT metric,
        count(*) FILTER (side = 'a') AS n_a,
        count(*) FILTER (side = 'b') AS n_b,
        sum(n_failed) FILTER (side = 'a') / nullif(sum(n + n_failed) FILTER (side = 'a'), 0)
            AS failed_a,
        sum(n_failed) FILTER (side = 'b') / nullif(sum(n + n_failed) FILTER (side = 'b'), 0)
            AS failed_b
    FROM kept
    GROUP BY metric
)
SELECT
    m.metric, m.mean, c.n_a, c.n_b,
    CASE WHEN $paired THEN o.alone_a END AS alone_a,
    CASE WHEN $paired THEN o.alone_b END AS alone_b,
    m.a, m.b, m.b - m.a AS difference,
    CASE WHEN least(c.n_a, c.n_b) > 1 THEN l.low END AS low,
    CASE WHEN least(c.n_a, c.n_b) > 1 THEN l.high END AS high,
    CASE WHEN $paired THEN p.n_better END AS n_better,
    CASE WHEN $paired THEN p.n_worse END AS n_worse,
    d.above_a, d.above_b, c.failed_a, c.failed_b
FROM means AS m
JOIN counted AS c USING (metric)
JOIN lone AS o USING (metric)
JOIN compared AS p USING (metric)
JOIN limits AS l USING (metric, mean)
LEFT JOIN discoveries AS d USING (metric)
ORDER BY m.metric, m.mean DESC
