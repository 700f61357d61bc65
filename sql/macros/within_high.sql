-- name: macros/within_high
-- Upper end of the interval of which within_low is the lower end.
CREATE OR REPLACE TEMP MACRO within_high(k, n, is_sequential) AS (
    CASE WHEN is_sequential THEN mixture_high(k, n) ELSE wilson_high(k, n) END
)
