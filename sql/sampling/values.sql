-- name: sampling/values
-- The activations that lie in the shown windows of one unit: where `item` of `windows_shown` holds
-- which value. Windows without a row are silent throughout.
-- param: capture       VARCHAR
-- param: hookpoint     VARCHAR
-- param: bucket        INTEGER
-- param: window_tokens BIGINT
-- column: item   BIGINT
-- column: offset BIGINT
-- column: value  FLOAT
-- grain: item, offset
WITH reached AS (
    SELECT
        item,
        latent,
        start,
        length,
        unnest(range(start // $window_tokens, (start + length - 1) // $window_tokens + 1)) AS bin
    FROM windows_shown
)
SELECT r.item, a.token - r.start AS "offset", a.value
FROM activations AS a
INNER JOIN reached AS r
    ON a.latent = r.latent
    AND a.token // $window_tokens = r.bin
    AND a.token >= r.start
    AND a.token < r.start + r.length
WHERE a.capture = $capture AND a.hookpoint = $hookpoint AND a.bucket = $bucket
