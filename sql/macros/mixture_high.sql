-- name: macros/mixture_high
-- Upper end of a 95 % confidence sequence of the share k / n, mirrored from mixture_low.
CREATE OR REPLACE TEMP MACRO mixture_high(k, n) AS (
    CASE
        WHEN n > 0 AND n - k > 1e-9 THEN 1 - list_reduce(
            list_transform(range(1, 46), lambda i: (n - k) / n / (1::BIGINT << i)),
            lambda low, step: CASE
                WHEN lgamma(k + 1) + lgamma(n - k + 1) - lgamma(n + 2)
                    - (n - k) * ln(low + step)
                    - greatest(0.0, k) * ln(greatest(1e-300, 1 - low - step)) >= ln(20)
                    THEN low + step
                ELSE low
            END,
            0.0::DOUBLE
        )
        WHEN n > 0 THEN 1.0
    END
)
