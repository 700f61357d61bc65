-- name: web/lowest
-- The lowest score or null of a list of latents; from `shelf_numbers`, which holds the result of
-- web/numbers.
-- column: lowest DOUBLE   NULL without scores
SELECT least(min("value"), min(null_value)) AS lowest
FROM shelf_numbers
