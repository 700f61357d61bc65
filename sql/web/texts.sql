-- name: web/texts
-- What lists of latents show and are searched in: for every latent the newest text of each
-- explainer, the tokens it fires on most, and all of these in small letters in one text. Places
-- are those of web/numbers.
-- param: capture    VARCHAR
-- param: tokenizer  VARCHAR
-- param: hookpoints VARCHAR[]
-- param: n_tokens   BIGINT      of the top tokens
-- column: place    BIGINT
-- column: said     STRUCT(explainer VARCHAR, "text" VARCHAR, status VARCHAR, reason VARCHAR)[]
-- column: tokens   STRUCT(token_id INTEGER, count BIGINT)[]
-- column: haystack VARCHAR
-- grain: place
WITH sites AS (
    SELECT unnest($hookpoints) AS hookpoint, unnest(range(len($hookpoints))) AS number
),
counted AS (
    SELECT i.number * 4294967296 + l.latent AS place, l.top_tokens[:$n_tokens] AS top
    FROM latents AS l
    JOIN sites AS i USING (hookpoint)
    WHERE l.capture = $capture
),
named AS (
    SELECT
        t.place,
        list(struct_pack(token_id := t.one.token_id, count := t.one.count) ORDER BY t.turn)
            AS tokens,
        string_agg(v."text", chr(10) ORDER BY t.turn) AS spelled
    FROM (
        SELECT place, unnest(top) AS one, unnest(range(len(top))) AS turn FROM counted
    ) AS t
    LEFT JOIN vocabulary AS v ON v.token_id = t.one.token_id AND v.tokenizer = $tokenizer
    GROUP BY t.place
),
told AS (
    SELECT
        i.number * 4294967296 + e.latent AS place,
        list(
            struct_pack(explainer := e.explainer, "text" := e."text", status := e.status,
                reason := e.reason)
            ORDER BY e.explainer
        ) AS said,
        string_agg(e."text", chr(10) ORDER BY e.explainer) AS texts
    FROM newest_explanations($capture) AS e
    JOIN sites AS i USING (hookpoint)
    GROUP BY i.number, e.latent
)
SELECT
    coalesce(c.place, t.place) AS place,
    coalesce(t.said, []) AS said,
    coalesce(n.tokens, []) AS tokens,
    lower(concat_ws(chr(10), t.texts, n.spelled)) AS haystack
FROM counted AS c
FULL JOIN told AS t USING (place)
LEFT JOIN named AS n ON n.place = coalesce(c.place, t.place)
ORDER BY coalesce(c.place, t.place)
