-- name: report/costs
-- What the language models' replies behind a capture cost, each reply counted once a row: by
-- explainer, and by explainer and scorer. `cost_usd` sums what is known; replies of unknown
-- cost are counted, not guessed.
-- param: capture VARCHAR
-- column: hookpoint VARCHAR
-- column: explainer VARCHAR
-- column: scorer    VARCHAR   NULL for the explainer's own replies
-- column: n_replies BIGINT
-- column: n_failed  BIGINT
-- column: n_priced  BIGINT
-- column: n_free    BIGINT
-- column: n_unknown BIGINT
-- column: cost_usd  DOUBLE
-- column: models    VARCHAR[]
-- grain: hookpoint, explainer, scorer
WITH standing AS (
    SELECT hookpoint, explanation, explainer, reply_keys
    FROM newest_explanations($capture)
),
used AS (
    SELECT hookpoint, explainer, NULL::VARCHAR AS scorer, unnest(reply_keys) AS key
    FROM standing
    UNION
    SELECT s.hookpoint, s.explainer, j.scorer, unnest(j.reply_keys) AS key
    FROM judgements AS j
    JOIN standing AS s USING (hookpoint, explanation)
    WHERE j.capture = $capture
)
SELECT
    u.hookpoint,
    u.explainer,
    u.scorer,
    count(*) AS n_replies,
    count(*) FILTER (r.status <> 'ok') AS n_failed,
    count(*) FILTER (r.cost_state = 'priced') AS n_priced,
    count(*) FILTER (r.cost_state = 'free') AS n_free,
    count(*) FILTER (r.cost_state = 'unknown') AS n_unknown,
    coalesce(sum(r.cost_usd), 0) AS cost_usd,
    list_sort(list(DISTINCT coalesce(r.model_served, r.model_requested))) AS models
FROM used AS u
JOIN replies AS r USING (key)
GROUP BY u.hookpoint, u.explainer, u.scorer
ORDER BY u.hookpoint, u.explainer, u.scorer NULLS FIRST
