-- name: macros/welch
-- Half the width of the 95 % interval of a difference of two means, from the variance of each and
-- its degrees of freedom (Welch 1947).
CREATE OR REPLACE TEMP MACRO welch(variance_a, freedom_a, variance_b, freedom_b) AS (
    student(
        (variance_a + variance_b) ** 2
            / (variance_a ** 2 / freedom_a + variance_b ** 2 / freedom_b)
    ) * sqrt(variance_a + variance_b)
)
