-- name: explain/held
-- The texts of one explainer that stand in a capture.
-- param: capture   VARCHAR
-- param: explainer VARCHAR
-- column: hookpoint   VARCHAR
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: text        VARCHAR
-- grain: hookpoint, latent
SELECT hookpoint, latent, explanation, "text"
FROM newest_explanations($capture)
WHERE explainer = $explainer
    AND status = 'ok'
    AND "text" <> ''
ORDER BY hookpoint, latent
