-- name: replies/kept
-- Whole replies, in the order of their keys.
-- param: status VARCHAR    only these; '' takes all
-- param: route  VARCHAR    only these; '' takes all
-- param: prefix VARCHAR    only keys that begin with it; '' takes all
-- column: key               VARCHAR
-- column: created_at        TIMESTAMP WITH TIME ZONE
-- column: route             VARCHAR
-- column: model_requested   VARCHAR
-- column: model_served      VARCHAR
-- column: status            VARCHAR
-- column: reason            VARCHAR
-- column: request           VARCHAR    JSON
-- column: text              VARCHAR    as the model gave it
-- column: logprobs          VARCHAR    JSON: token, log-probability and alternatives of each
-- column: finish_reason     VARCHAR
-- column: prompt_tokens     BIGINT
-- column: completion_tokens BIGINT
-- column: cost_usd          DOUBLE
-- column: cost_state        VARCHAR
-- column: latency_s         DOUBLE
-- column: attempts          INTEGER
-- grain: key
SELECT
    key,
    created_at,
    route,
    model_requested,
    model_served,
    status,
    reason,
    request,
    text,
    logprobs,
    finish_reason,
    prompt_tokens,
    completion_tokens,
    cost_usd,
    cost_state,
    latency_s,
    attempts
FROM replies
WHERE $status IN ('', status)
    AND $route IN ('', route)
    AND starts_with(key, $prefix)
ORDER BY key
