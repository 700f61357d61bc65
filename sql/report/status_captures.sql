-- name: report/status_captures
-- The captures of a lake, newest first, and how many of their corpus' sequences are stored.
-- column: capture        VARCHAR
-- column: created_at     TIMESTAMP WITH TIME ZONE
-- column: model          VARCHAR
-- column: coder          VARCHAR
-- column: corpus         VARCHAR
-- column: context_tokens INTEGER
-- column: tokens_asked   BIGINT   from the capture's settings, NULL if they do not say
-- column: n_hookpoints   BIGINT
-- column: n_latents      BIGINT
-- column: n_sequences    BIGINT
-- grain: capture
WITH stored AS (
    SELECT corpus, count(*) AS n_sequences FROM sequences GROUP BY corpus
),
width AS (
    SELECT capture, count(*) AS n_hookpoints, sum(n_latents)::BIGINT AS n_latents
    FROM hookpoints
    GROUP BY capture
)
SELECT
    c.capture, c.created_at, c.model, c.coder, c.corpus, c.context_tokens,
    coalesce(
        json_extract_string(c.config, '$.capture.n_tokens'),
        json_extract_string(c.config, '$.n_tokens')
    )::BIGINT AS tokens_asked,
    coalesce(w.n_hookpoints, 0) AS n_hookpoints,
    coalesce(w.n_latents, 0) AS n_latents,
    coalesce(s.n_sequences, 0) AS n_sequences
FROM captures AS c
LEFT JOIN width AS w USING (capture)
LEFT JOIN stored AS s USING (corpus)
ORDER BY c.created_at DESC NULLS LAST, c.capture
