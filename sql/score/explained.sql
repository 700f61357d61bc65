-- name: score/explained
-- The hookpoints of a capture for which an explainer has written anything on one sample.
-- param: capture   VARCHAR
-- param: explainer VARCHAR
-- param: sample    VARCHAR
-- column: hookpoint VARCHAR
-- grain: hookpoint
SELECT DISTINCT hookpoint
FROM explanations
WHERE capture = $capture
    AND explainer = $explainer
    AND sample = $sample
ORDER BY hookpoint
