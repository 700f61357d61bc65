-- name: bridges/standing
-- The explanations of a hookpoint that stand, of each explainer the newest of a latent, failed ones
-- too.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR     NULL gives those of all
-- param: latents   INTEGER[]   NULL gives those of all
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: explainer   VARCHAR
-- column: text        VARCHAR
-- column: status      VARCHAR
-- column: detail      VARCHAR
-- grain: latent, explainer
SELECT latent, explanation, explainer, "text", status, detail
FROM newest_explanations($capture)
WHERE hookpoint = $hookpoint
    AND ($explainer IS NULL OR explainer = $explainer)
    AND ($latents IS NULL OR list_contains($latents, latent))
ORDER BY latent, explainer
