-- name: replies/listed
-- Replies, the newest first, without their texts' ends.
-- param: status VARCHAR    only these; '' takes all
-- param: route  VARCHAR    only these; '' takes all
-- param: n      BIGINT     at most so many
-- column: key        VARCHAR
-- column: created_at TIMESTAMP WITH TIME ZONE
-- column: route      VARCHAR
-- column: model      VARCHAR
-- column: status     VARCHAR
-- column: tokens     BIGINT     NULL if the provider did not count
-- column: cost_usd   DOUBLE
-- column: cost_state VARCHAR
-- column: said       VARCHAR    begins the text, or the reason of a failure
-- grain: key
SELECT
    key,
    created_at,
    route,
    coalesce(model_served, model_requested) AS model,
    status,
    prompt_tokens + completion_tokens AS tokens,
    cost_usd,
    cost_state,
    left(coalesce(text, reason), 200) AS said
FROM replies
WHERE $status IN ('', status)
    AND $route IN ('', route)
ORDER BY created_at DESC, key
LIMIT $n
