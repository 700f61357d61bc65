-- name: macros/wilson_high
-- Upper end of the 95 % Wilson score interval (Wilson 1927) of the share k / n, mirrored from
-- wilson_low. NULL without items. Without a single hit it is 3.84 / (n + 3.84), which from n = 14
-- on is above the rule of three's 3 / n.
CREATE OR REPLACE TEMP MACRO wilson_high(k, n) AS (
    CASE
        WHEN n > 0 AND k < n THEN greatest(
            least(1.0,
                (k + 1.920729410347062
                    + 1.959963984540054 * sqrt(greatest(0.0, k * (n - k) / n) + 0.960364705173531))
                / (n + 3.841458820694124)),
            CASE ceil(n - k - 1e-9)
                WHEN 1 THEN 1 - 0.02531780798428987 / n
                WHEN 2 THEN 1 - 0.2422092785439695 / n
                WHEN 3 THEN 1 - 0.6186721254127025 / n
                ELSE 0.0
            END)
        WHEN n > 0 THEN 1.0
    END
)
