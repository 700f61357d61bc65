-- name: score/judged
-- The explanations that a scorer has judged on a latent's items with nothing left to try again.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: scorer    VARCHAR
-- param: settings  VARCHAR
-- param: transient VARCHAR[]
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- grain: latent, explanation
SELECT latent, explanation
FROM judgements
WHERE capture = $capture
    AND hookpoint = $hookpoint
    AND scorer = $scorer
    AND settings = $settings
GROUP BY latent, explanation
HAVING count(*) FILTER (list_contains($transient, status)) = 0
ORDER BY latent, explanation
