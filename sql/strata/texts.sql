-- name: strata/texts
-- The tokens of a range of tiles, in order.
-- param: corpus         VARCHAR
-- param: context_tokens BIGINT
-- param: first          BIGINT   number of the first tile
-- param: stop           BIGINT   number after the last one
-- column: number INTEGER
-- column: tokens INTEGER[]
-- grain: number
SELECT
    t.number,
    s.tokens[t.tile % $context_tokens + 1 : t.tile % $context_tokens + t.length] AS tokens
FROM tiles AS t
INNER JOIN sequences AS s
    ON s.corpus = $corpus AND s.sequence = t.tile // $context_tokens
WHERE t.number >= $first AND t.number < $stop
ORDER BY t.number
