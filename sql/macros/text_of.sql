-- name: macros/text_of
-- The text of a list of token ids, by the vocabulary of the newest capture, or of the tokenizer
-- named: text_of(tokens), text_of(tokens, tokenizer := '…').
CREATE OR REPLACE TEMP MACRO text_of(tokens, tokenizer := NULL) AS (
    SELECT string_agg(v.text, '' ORDER BY t.place)
    FROM (SELECT unnest(tokens) AS token_id, unnest(range(len(tokens))) AS place) AS t
    INNER JOIN vocabulary AS v
        ON v.token_id = t.token_id
        AND v.tokenizer = coalesce(
            tokenizer,
            (SELECT arg_max(c.tokenizer, c.created_at) FROM captures AS c)
        )
)
