-- name: sampling/bins
-- Which tiles reach into each run of $window_tokens corpus tokens: finds a token's tile by an
-- equality join on token // $window_tokens and a comparison, whatever the documents' starts.
-- param: window_tokens BIGINT
-- column: bin    BIGINT
-- column: number BIGINT
-- column: tile   BIGINT
-- column: stop   BIGINT   token after the tile's last one
-- grain: bin, number
CREATE OR REPLACE TEMP TABLE bins AS
SELECT
    unnest(range(tile // $window_tokens, (tile + length - 1) // $window_tokens + 1)) AS bin,
    number,
    tile,
    tile + length AS stop
FROM tiles
