-- name: macros/mixture_low
-- Lower end of a 95 % confidence sequence of the share k / n: it holds the truth at every n at once
-- with that chance, so that one may stop when it is narrow. Shares p are left out against which
-- the mixture of all shares has won twentyfold, B(k + 1, n - k + 1) >= 20 p^k (1 - p)^(n - k)
-- (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon 2021), found by halving. Both may be
-- fractions. NULL without items.
CREATE OR REPLACE TEMP MACRO mixture_low(k, n) AS (
    CASE
        WHEN n > 0 AND k > 1e-9 THEN list_reduce(
            list_transform(range(1, 46), lambda i: k / n / (1::BIGINT << i)),
            lambda low, step: CASE
                WHEN lgamma(k + 1) + lgamma(n - k + 1) - lgamma(n + 2)
                    - k * ln(low + step)
                    - greatest(0.0, n - k) * ln(greatest(1e-300, 1 - low - step)) >= ln(20)
                    THEN low + step
                ELSE low
            END,
            0.0::DOUBLE
        )
        WHEN n > 0 THEN 0.0
    END
)
