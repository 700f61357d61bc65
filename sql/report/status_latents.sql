-- name: report/status_latents
-- Each hookpoint's latents by status, and how many have examples, explanations and scores, of any
-- sample. What is left to do is counted within the present sample of each capture: number i of
-- $current belongs to number i of $captures; NULL takes all samples together. A status in
-- $transient is tried again, every other is an end.
-- param: captures  VARCHAR[]
-- param: current   VARCHAR[]
-- param: transient VARCHAR[]
-- column: capture       VARCHAR
-- column: hookpoint     VARCHAR
-- column: n_latents     BIGINT
-- column: n_known       BIGINT   with a row in `latents`
-- column: n_ok          BIGINT
-- column: n_rare        BIGINT
-- column: n_dead        BIGINT
-- column: n_dense       BIGINT
-- column: n_sampled     BIGINT   with examples
-- column: n_explained   BIGINT   with an explanation that is ok
-- column: n_scored      BIGINT   with a score that has a value
-- column: n_unexplained BIGINT   with examples, and no explanation that is final
-- column: n_unscored    BIGINT   with an explanation that is ok, and no score that is final
-- grain: capture, hookpoint
WITH present AS (
    SELECT unnest($captures::VARCHAR[]) AS capture, unnest($current::VARCHAR[]) AS sample
),
known AS (
    SELECT
        capture, hookpoint,
        count(*) AS n_known,
        count(*) FILTER (status = 'ok') AS n_ok,
        count(*) FILTER (status = 'rare') AS n_rare,
        count(*) FILTER (status = 'dead') AS n_dead,
        count(*) FILTER (status = 'dense') AS n_dense
    FROM latents
    GROUP BY capture, hookpoint
),
sampled AS (
    SELECT e.capture, e.hookpoint, e.latent,
        bool_or(p.sample IS NULL OR e.sample = p.sample) AS is_present
    FROM examples AS e
    JOIN present AS p USING (capture)
    GROUP BY e.capture, e.hookpoint, e.latent
),
marked AS (
    SELECT e.capture, e.hookpoint, e.latent, e.explanation, e.status,
        p.sample IS NULL OR coalesce(e.sample = p.sample, false) AS is_present
    FROM explanations AS e
    JOIN present AS p USING (capture)
),
explained AS (
    SELECT capture, hookpoint, latent,
        bool_or(status = 'ok') AS has_text,
        bool_or(is_present AND status = 'ok') AS is_described,
        bool_or(is_present AND NOT list_contains($transient, status)) AS is_final
    FROM marked
    GROUP BY capture, hookpoint, latent
),
scored AS (
    SELECT s.capture, s.hookpoint, s.latent,
        bool_or(s."value" IS NOT NULL) AS has_value,
        bool_or(m.is_present AND NOT list_contains($transient, s.status)) AS is_final
    FROM scores AS s
    JOIN marked AS m USING (capture, hookpoint, latent, explanation)
    GROUP BY s.capture, s.hookpoint, s.latent
),
progress AS (
    SELECT
        capture, hookpoint,
        count(m.is_present) AS n_sampled,
        count(*) FILTER (e.has_text) AS n_explained,
        count(*) FILTER (s.has_value) AS n_scored,
        count(*) FILTER (m.is_present AND NOT coalesce(e.is_final, false)) AS n_unexplained,
        count(*) FILTER (e.is_described AND NOT coalesce(s.is_final, false)) AS n_unscored
    FROM sampled AS m
    FULL JOIN explained AS e USING (capture, hookpoint, latent)
    FULL JOIN scored AS s USING (capture, hookpoint, latent)
    GROUP BY capture, hookpoint
)
SELECT
    h.capture, h.hookpoint, h.n_latents::BIGINT AS n_latents,
    coalesce(k.n_known, 0) AS n_known,
    coalesce(k.n_ok, 0) AS n_ok,
    coalesce(k.n_rare, 0) AS n_rare,
    coalesce(k.n_dead, 0) AS n_dead,
    coalesce(k.n_dense, 0) AS n_dense,
    coalesce(p.n_sampled, 0) AS n_sampled,
    coalesce(p.n_explained, 0) AS n_explained,
    coalesce(p.n_scored, 0) AS n_scored,
    coalesce(p.n_unexplained, 0) AS n_unexplained,
    coalesce(p.n_unscored, 0) AS n_unscored
FROM hookpoints AS h
LEFT JOIN known AS k USING (capture, hookpoint)
LEFT JOIN progress AS p USING (capture, hookpoint)
ORDER BY h.capture, h.hookpoint
