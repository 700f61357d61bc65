-- name: report/sample_sizes
-- The samples behind the explanations that stand, the one of the newest explanation first, and
-- how many explanations each has.
-- param: capture VARCHAR
-- column: sample         VARCHAR
-- column: n_explanations BIGINT
-- grain: sample
SELECT sample, count(*) AS n_explanations
FROM newest_explanations($capture)
WHERE sample IS NOT NULL
GROUP BY sample
ORDER BY max(created_at) DESC NULLS LAST, n_explanations DESC, sample
