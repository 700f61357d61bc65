-- name: macros/ratio_high
-- Upper end of an interval for a / b, as ratio_low; infinite where b may be zero.
CREATE OR REPLACE TEMP MACRO ratio_high(a, a_high, b, b_low) AS (
    CASE
        WHEN b_low = 0 THEN 'infinity'::DOUBLE
        ELSE (
            a * b + sqrt(greatest(0.0, a * a * b * b
                - a_high * (2 * a - a_high) * b_low * (2 * b - b_low)))
        ) / (b_low * (2 * b - b_low))
    END
)
