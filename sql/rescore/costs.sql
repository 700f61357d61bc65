-- name: rescore/costs
-- What explaining and judging one latent took so far, by explainer and scorer: replies and their
-- tokens, and what they cost in the three states. Replies that several rows use count in each
-- latent that used them. Of judging, what borrowed explanations and second judgements took too.
-- param: capture   VARCHAR
-- param: explainer VARCHAR
-- column: scorer    VARCHAR   NULL for explaining
-- column: n_latents BIGINT    explanations, or latents judged with one of them
-- column: n_calls   BIGINT
-- column: n_tokens  BIGINT    of prompts and replies, as far as they were counted
-- column: n_counted BIGINT    calls whose tokens were counted
-- column: n_priced  BIGINT
-- column: n_free    BIGINT
-- column: n_unknown BIGINT
-- column: cost_usd  DOUBLE    as far as it is known; n_unknown calls may have cost more
-- grain: scorer
WITH mine AS (
    SELECT hookpoint, latent, explanation, sample, reply_keys
    FROM explanations
    WHERE capture = $capture AND explainer = $explainer
),
used AS (
    SELECT NULL::VARCHAR AS scorer, hookpoint, latent, explanation AS piece,
        unnest(reply_keys) AS key
    FROM mine
    UNION
    SELECT j.scorer, j.hookpoint, j.latent, j.settings || m.sample AS piece,
        unnest(j.reply_keys) AS key
    FROM judgements AS j
    JOIN mine AS m USING (hookpoint, explanation)
    WHERE j.capture = $capture
)
SELECT
    u.scorer,
    count(DISTINCT (u.hookpoint, u.latent, u.piece)) AS n_latents,
    count(*) AS n_calls,
    coalesce(sum(r.prompt_tokens + r.completion_tokens), 0)::BIGINT AS n_tokens,
    count(r.prompt_tokens + r.completion_tokens) AS n_counted,
    count(*) FILTER (r.cost_state = 'priced') AS n_priced,
    count(*) FILTER (r.cost_state = 'free') AS n_free,
    count(*) FILTER (r.cost_state = 'unknown') AS n_unknown,
    coalesce(sum(r.cost_usd), 0) AS cost_usd
FROM used AS u
JOIN replies AS r USING (key)
GROUP BY u.scorer
ORDER BY u.scorer NULLS FIRST
