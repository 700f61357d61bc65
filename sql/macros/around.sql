-- name: macros/around
-- The text from `n` tokens before to `n` tokens behind a token of the newest capture, or of the
-- capture named, as far as its sequence reaches: around(token, 8), around(token, 8, of := '…').
CREATE OR REPLACE TEMP MACRO around(token, n, of := NULL) AS (
    SELECT
        text_of(
            s.tokens[
                greatest(1, token % c.context_tokens + 1 - n):token % c.context_tokens + 1 + n
            ],
            tokenizer := c.tokenizer
        )
    FROM captures AS c
    INNER JOIN sequences AS s
        ON s.corpus = c.corpus AND s.sequence = token // c.context_tokens
    WHERE c.capture = coalesce(of, (SELECT arg_max(k.capture, k.created_at) FROM captures AS k))
)
