-- name: macros/within_low
-- Lower end of the 95 % interval of the share k / n: Wilson's, or where judging stops as soon as
-- the interval is narrow one that holds then too.
CREATE OR REPLACE TEMP MACRO within_low(k, n, is_sequential) AS (
    CASE WHEN is_sequential THEN mixture_low(k, n) ELSE wilson_low(k, n) END
)
