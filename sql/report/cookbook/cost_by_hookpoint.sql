-- name: report/cookbook/cost_by_hookpoint
-- What did the language models cost, by hookpoint and step? Each reply is counted once a step;
-- unknown costs are counted, not guessed.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: step      VARCHAR   explain, or the scorer
-- column: n_replies BIGINT
-- column: n_unknown BIGINT
-- column: tokens    BIGINT   in prompts and replies
-- column: cost_usd  DOUBLE
-- grain: capture, hookpoint, step
WITH used AS (
    SELECT capture, hookpoint, 'explain' AS step, unnest(reply_keys) AS key
    FROM explanations
    UNION ALL
    SELECT capture, hookpoint, scorer AS step, unnest(reply_keys) AS key
    FROM judgements
),
once AS (
    SELECT DISTINCT capture, hookpoint, step, key
    FROM used
    WHERE key IS NOT NULL
)
SELECT
    u.capture, u.hookpoint, u.step, count(*) AS n_replies,
    count(CASE WHEN r.cost_state = 'unknown' THEN 1 END) AS n_unknown,
    CAST(sum(coalesce(r.prompt_tokens, 0) + coalesce(r.completion_tokens, 0)) AS BIGINT) AS tokens,
    coalesce(sum(CASE WHEN r.cost_state = 'priced' THEN r.cost_usd END), 0.0) AS cost_usd
FROM once AS u
JOIN replies AS r ON u.key = r.key
GROUP BY u.capture, u.hookpoint, u.step
ORDER BY cost_usd DESC, u.capture, u.hookpoint, u.step
