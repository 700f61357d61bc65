-- name: report/judged
-- How each example of some latents fared with each scorer, judged by the latent's own
-- explanation: items, those judged right, those that failed; from the settings that give the
-- scores that stand.
-- param: capture      VARCHAR
-- param: explanations VARCHAR[]
-- column: hookpoint   VARCHAR
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: scorer      VARCHAR
-- column: example     INTEGER
-- column: n           BIGINT
-- column: n_right     BIGINT
-- column: n_failed    BIGINT
-- grain: hookpoint, latent, explanation, scorer, example
WITH wanted AS (
    SELECT DISTINCT unnest($explanations) AS explanation
),
standing AS (
    SELECT DISTINCT ON (s.hookpoint, s.explanation, s.scorer)
        s.hookpoint, s.explanation, s.scorer, s.settings
    FROM scores AS s
    JOIN wanted AS w USING (explanation)
    WHERE s.capture = $capture
    ORDER BY s.hookpoint, s.explanation, s.scorer, s.created_at DESC NULLS LAST, s.settings
)
SELECT
    j.hookpoint, j.latent, j.explanation, j.scorer, j.example,
    count(*) AS n,
    count(*) FILTER (j.status = 'ok' AND j.prediction = j.truth) AS n_right,
    count(*) FILTER (j.status <> 'ok' OR j.prediction IS NULL) AS n_failed
FROM judgements AS j
JOIN standing AS s USING (hookpoint, explanation, scorer, settings)
WHERE j.capture = $capture
    AND j.role = 'own'
    AND j.example IS NOT NULL
    AND j.status <> 'stopped_early'
GROUP BY j.hookpoint, j.latent, j.explanation, j.scorer, j.example
ORDER BY j.hookpoint, j.latent, j.explanation, j.scorer, j.example
