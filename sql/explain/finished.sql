-- name: explain/finished
-- The explanations that need no further try: those whose status is not transient.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR
-- param: settings  VARCHAR
-- param: sample    VARCHAR
-- param: transient VARCHAR[]
-- column: explanation VARCHAR
-- grain: explanation
SELECT explanation
FROM explanations
WHERE capture = $capture
    AND hookpoint = $hookpoint
    AND explainer = $explainer
    AND settings = $settings
    AND sample = $sample
    AND NOT list_contains($transient, status)
ORDER BY explanation
