-- name: web/items
-- Every item that scorers were asked about some explanations of one latent: what the truth was,
-- what was said of it, and under which keys the replies are kept; from the settings that give the
-- scores that stand. Items of the borrowed explanations that make the null come last.
-- param: capture      VARCHAR
-- param: hookpoint    VARCHAR
-- param: latent       INTEGER
-- param: explanations VARCHAR[]
-- column: explanation      VARCHAR
-- column: scorer           VARCHAR
-- column: role             VARCHAR   own, or borrowed
-- column: item             INTEGER
-- column: example          INTEGER
-- column: stratum          VARCHAR
-- column: quantile         INTEGER
-- column: explained_latent INTEGER
-- column: truth            BOOLEAN
-- column: prediction       BOOLEAN
-- column: probability      DOUBLE
-- column: value            DOUBLE
-- column: status           VARCHAR
-- column: reason           VARCHAR
-- column: reply_keys       VARCHAR[]
-- grain: explanation, scorer, item
WITH wanted AS (
    SELECT DISTINCT unnest($explanations) AS explanation
),
standing AS (
    SELECT DISTINCT ON (s.explanation, s.scorer) s.explanation, s.scorer, s.settings
    FROM scores AS s
    JOIN wanted AS w USING (explanation)
    WHERE s.capture = $capture AND s.hookpoint = $hookpoint AND s.latent = $latent
    ORDER BY s.explanation, s.scorer, s.created_at DESC NULLS LAST, s.settings
)
SELECT
    j.explanation, j.scorer, j.role, j.item, j.example, j.stratum, j.quantile,
    j.explained_latent, j.truth, j.prediction, j.probability, j."value", j.status, j.reason,
    j.reply_keys
FROM judgements AS j
JOIN standing AS s USING (explanation, scorer, settings)
WHERE j.capture = $capture AND j.hookpoint = $hookpoint AND j.latent = $latent
ORDER BY j.explanation, j.scorer, j.role DESC, j.item
