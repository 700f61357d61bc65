-- name: macros/student
-- The 97.5 % quantile of Student's t with `df` degrees of freedom, a whole number or not, at least
-- one: the normal quantile times the exponential of a polynomial in 1 / df that was fitted to the
-- ratio of the two. Within 3e-6 of the quantile, relatively, at every df.
CREATE OR REPLACE TEMP MACRO student(df) AS (
    1.959963984540054 * exp((1.210365732 + (0.707498564 + (0.153311389 + (-0.239509159
        + (-0.057558141 + (0.141981846 - 0.046928201
            / greatest(1.0, df)) / greatest(1.0, df)) / greatest(1.0, df)) / greatest(1.0, df))
        / greatest(1.0, df)) / greatest(1.0, df)) / greatest(1.0, df))
)
