-- name: report/status_latents
-- Each hookpoint's latents by status, and how many have examples, explanations and scores.
-- column: capture     VARCHAR
-- column: hookpoint   VARCHAR
-- column: n_latents   BIGINT
-- column: n_known     BIGINT   with a row in `latents`
-- column: n_ok        BIGINT
-- column: n_rare      BIGINT
-- column: n_dead      BIGINT
-- column: n_dense     BIGINT
-- column: n_sampled   BIGINT   with examples
-- column: n_explained BIGINT   with an explanation that is ok
-- column: n_scored    BIGINT   with a score that has a value
-- grain: capture, hookpoint
WITH known AS (
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
    SELECT capture, hookpoint, count(DISTINCT latent) AS n_sampled
    FROM examples
    GROUP BY capture, hookpoint
),
explained AS (
    SELECT capture, hookpoint, count(DISTINCT latent) AS n_explained
    FROM explanations
    WHERE status = 'ok'
    GROUP BY capture, hookpoint
),
scored AS (
    SELECT capture, hookpoint, count(DISTINCT latent) AS n_scored
    FROM scores
    WHERE "value" IS NOT NULL
    GROUP BY capture, hookpoint
)
SELECT
    h.capture, h.hookpoint, h.n_latents::BIGINT AS n_latents,
    coalesce(k.n_known, 0) AS n_known,
    coalesce(k.n_ok, 0) AS n_ok,
    coalesce(k.n_rare, 0) AS n_rare,
    coalesce(k.n_dead, 0) AS n_dead,
    coalesce(k.n_dense, 0) AS n_dense,
    coalesce(m.n_sampled, 0) AS n_sampled,
    coalesce(e.n_explained, 0) AS n_explained,
    coalesce(s.n_scored, 0) AS n_scored
FROM hookpoints AS h
LEFT JOIN known AS k USING (capture, hookpoint)
LEFT JOIN sampled AS m USING (capture, hookpoint)
LEFT JOIN explained AS e USING (capture, hookpoint)
LEFT JOIN scored AS s USING (capture, hookpoint)
ORDER BY h.capture, h.hookpoint
