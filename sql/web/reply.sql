-- name: web/reply
-- One reply of a language model, whole.
-- param: key VARCHAR
-- column: key               VARCHAR
-- column: created_at        TIMESTAMP WITH TIME ZONE
-- column: route             VARCHAR
-- column: model_requested   VARCHAR
-- column: model_served      VARCHAR
-- column: status            VARCHAR
-- column: reason            VARCHAR
-- column: request           VARCHAR    JSON
-- column: text              VARCHAR    as the model gave it
-- column: finish_reason     VARCHAR
-- column: prompt_tokens     BIGINT
-- column: completion_tokens BIGINT
-- column: cost_usd          DOUBLE
-- column: cost_state        VARCHAR
-- column: latency_s         DOUBLE
-- column: attempts          INTEGER
-- grain: key
SELECT
    key, created_at, route, model_requested, model_served, status, reason, request, "text",
    finish_reason, prompt_tokens, completion_tokens, cost_usd, cost_state, latency_s, attempts
FROM replies
WHERE key = $key
