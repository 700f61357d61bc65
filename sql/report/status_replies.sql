-- name: report/status_replies
-- Replies of language models by model, status and what is known of their cost.
-- column: model             VARCHAR
-- column: status            VARCHAR
-- column: cost_state        VARCHAR
-- column: n                 BIGINT
-- column: prompt_tokens     BIGINT
-- column: completion_tokens BIGINT
-- column: cost_usd          DOUBLE
-- grain: model, status, cost_state
SELECT
    coalesce(model_served, model_requested) AS model,
    status,
    cost_state,
    count(*) AS n,
    coalesce(sum(prompt_tokens), 0)::BIGINT AS prompt_tokens,
    coalesce(sum(completion_tokens), 0)::BIGINT AS completion_tokens,
    coalesce(sum(cost_usd), 0) AS cost_usd
FROM replies
GROUP BY coalesce(model_served, model_requested), status, cost_state
ORDER BY model, n DESC, status, cost_state
