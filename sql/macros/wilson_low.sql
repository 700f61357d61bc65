-- name: macros/wilson_low
-- Lower end of the 95 % Wilson score interval (Wilson 1927) of the share k / n, at the lowest
-- counts not above the Poisson limit, without which small shares are missed too often. Brown, Cai
-- and DasGupta 2001 (modified Wilson interval) take the limit that is missed in 5 %; here it is
-- that of 2.5 %, because what is made of two small shares, as F1, errs to one side of both. NULL
-- without items. Both may be fractions, so that weighted shares can be given with an effective n.
CREATE OR REPLACE TEMP MACRO wilson_low(k, n) AS (
    CASE
        WHEN n > 0 AND k > 0 THEN least(
            greatest(0.0,
                (k + 1.920729410347062
                    - 1.959963984540054 * sqrt(greatest(0.0, k * (n - k) / n) + 0.960364705173531))
                / (n + 3.841458820694124)),
            CASE ceil(k - 1e-9)
                WHEN 1 THEN 0.02531780798428987 / n
                WHEN 2 THEN 0.2422092785439695 / n
                WHEN 3 THEN 0.6186721254127025 / n
                ELSE 1.0
            END)
        WHEN n > 0 THEN 0.0
    END
)
