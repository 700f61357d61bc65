-- name: report/status_examples
-- The samples of a lake: latents with examples, and examples by role and kind.
-- column: capture      VARCHAR
-- column: sample       VARCHAR
-- column: n_latents    BIGINT
-- column: n_explain    BIGINT   activating, shown to explainers
-- column: n_score      BIGINT   activating, held out for scorers
-- column: n_negatives  BIGINT
-- grain: capture, sample
SELECT
    capture,
    sample,
    count(DISTINCT (hookpoint, latent)) AS n_latents,
    count(*) FILTER (stratum = 'activating' AND role = 'explain') AS n_explain,
    count(*) FILTER (stratum = 'activating' AND role = 'score') AS n_score,
    count(*) FILTER (stratum <> 'activating') AS n_negatives
FROM examples
GROUP BY capture, sample
ORDER BY capture, sample
