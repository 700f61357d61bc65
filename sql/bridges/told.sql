-- name: bridges/told
-- The explanations of a hookpoint that stand, one row each, with what is known of the latent: for
-- tables that leave the lake.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: explainer VARCHAR     NULL gives those of all
-- param: latents   INTEGER[]   NULL gives those of all
-- column: capture       VARCHAR
-- column: hookpoint     VARCHAR
-- column: latent        INTEGER
-- column: explainer     VARCHAR
-- column: explanation   VARCHAR
-- column: text          VARCHAR
-- column: status        VARCHAR
-- column: reason        VARCHAR
-- column: density       DOUBLE
-- column: n_activations BIGINT
-- column: max           FLOAT
-- column: latent_status VARCHAR
-- column: settings      VARCHAR
-- column: sample        VARCHAR
-- column: created_at    TIMESTAMP WITH TIME ZONE
-- grain: hookpoint, latent, explainer
SELECT
    $capture AS capture, e.hookpoint, e.latent, e.explainer, e.explanation, e."text", e.status,
    e.reason, l.density, l.n_activations, l."max", l.status AS latent_status, e.settings,
    e.sample, e.created_at
FROM newest_explanations($capture) AS e
LEFT JOIN latents AS l
    ON l.capture = $capture AND l.hookpoint = e.hookpoint AND l.latent = e.latent
WHERE e.hookpoint = $hookpoint
    AND ($explainer IS NULL OR e.explainer = $explainer)
    AND ($latents IS NULL OR list_contains($latents, e.latent))
ORDER BY e.latent, e.explainer
