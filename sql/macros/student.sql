-- name: macros/student
-- The 97.5 % quantile of Student's t with `df` degrees of freedom, at least one, by its expansion in
-- 1 / df (Cornish and Fisher): 2.23 for 10, where 2.2281 is exact.
CREATE OR REPLACE TEMP MACRO student(df) AS (
    1.959963984540054 + 2.372271 / greatest(1, df) + 2.822500 / greatest(1, df) ** 2
)
