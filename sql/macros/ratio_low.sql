-- name: macros/ratio_low
-- Lower end of an interval for a / b from the intervals of two independent estimates (a, a_low,
-- a_high) and (b, b_low, b_high), none negative: method of variance estimates recovery
-- (Donner and Zou 2012), written without the division that fails at b_high = 2 b.
CREATE OR REPLACE TEMP MACRO ratio_low(a, a_low, b, b_high) AS (
    CASE
        WHEN a_low = 0 THEN 0.0
        ELSE a_low * (2 * a - a_low) / (
            a * b + sqrt(greatest(0.0, a * a * b * b
                - a_low * (2 * a - a_low) * b_high * (2 * b - b_high)))
        )
    END
)
