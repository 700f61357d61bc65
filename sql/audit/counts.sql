-- name: audit/counts
-- Latents with more examples of one role and kind than asked for, or that are not numbered from 0
-- without a gap. Must return no row.
-- param: capture             VARCHAR
-- param: hookpoint           VARCHAR
-- param: bucket              INTEGER
-- param: sample              VARCHAR
-- param: n_explain           BIGINT
-- param: n_explain_negatives BIGINT
-- param: n_score             BIGINT
-- param: n_random            BIGINT
-- column: latent  INTEGER
-- column: problem VARCHAR
-- column: n       BIGINT
-- grain: latent, problem
WITH drawn AS (
    SELECT latent, example, role, stratum
    FROM examples
    WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
),
held AS (
    SELECT latent, role, stratum, count(*) AS n FROM drawn GROUP BY latent, role, stratum
),
surplus AS (
    SELECT latent, 'too many: ' || role || ' ' || stratum AS problem, n
    FROM held
    WHERE n > CASE
        WHEN role = 'explain' AND stratum = 'activating' THEN $n_explain
        WHEN role = 'explain' THEN $n_explain_negatives
        WHEN stratum = 'activating' THEN $n_score
        ELSE $n_random
    END
),
gaps AS (
    SELECT latent, 'examples are not numbered 0 to n - 1' AS problem, count(*) AS n
    FROM drawn
    GROUP BY latent
    HAVING min(example) <> 0 OR max(example) <> count(*) - 1 OR count(DISTINCT example) <> count(*)
)
SELECT latent, problem, n FROM surplus
UNION ALL
SELECT latent, problem, n FROM gaps
ORDER BY latent, problem
