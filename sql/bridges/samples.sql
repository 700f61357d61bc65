-- name: bridges/samples
-- The samples of which a hookpoint has examples.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- column: sample     VARCHAR
-- column: n_examples BIGINT
-- grain: sample
SELECT sample, count(*) AS n_examples
FROM examples
WHERE capture = $capture AND hookpoint = $hookpoint
GROUP BY sample
ORDER BY sample
