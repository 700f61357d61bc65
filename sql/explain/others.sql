-- name: explain/others
-- The texts that stand for the latents of a hookpoint by one explainer, in order of how often the
-- latents fire.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: text        VARCHAR
-- column: density     DOUBLE
-- column: detail      VARCHAR
-- grain: latent
SELECT e.latent, e.explanation, e."text", coalesce(l.density, 0) AS density, e.detail
FROM newest_explanations($capture) AS e
LEFT JOIN latents AS l
    ON l.capture = $capture AND l.hookpoint = e.hookpoint AND l.latent = e.latent
WHERE e.hookpoint = $hookpoint
    AND e.explainer = $explainer
    AND e.status = 'ok'
    AND e."text" <> ''
ORDER BY density, e.latent
