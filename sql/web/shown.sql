-- name: web/shown
-- What some latents of a list are said to mean, with their top tokens; from `shelf_texts`, which
-- holds the result of web/texts.
-- param: places BIGINT[]
-- column: place  BIGINT
-- column: said   STRUCT(explainer VARCHAR, "text" VARCHAR, status VARCHAR, reason VARCHAR)[]
-- column: tokens STRUCT(token_id INTEGER, count BIGINT)[]
-- grain: place
SELECT place, said, tokens
FROM shelf_texts
WHERE place IN (SELECT unnest($places))
ORDER BY place
