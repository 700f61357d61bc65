-- name: audit/split_overlap
-- Documents shown to the explainer and also given to a scorer. Must return no row.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: bucket    INTEGER
-- param: sample    VARCHAR
-- column: document BIGINT
-- column: roles    VARCHAR[]
-- grain: document
SELECT document, list(DISTINCT role ORDER BY role) AS roles
FROM examples
WHERE capture = $capture AND hookpoint = $hookpoint AND bucket = $bucket AND sample = $sample
GROUP BY document
HAVING count(DISTINCT role) > 1
ORDER BY document
