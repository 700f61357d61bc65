-- name: report/explanations
-- The explanations of some latents that stand, one of each explainer, failed ones too. Latent
-- i of the list is number $latents[i] of hookpoint $hookpoints[i].
-- param: capture    VARCHAR
-- param: hookpoints VARCHAR[]
-- param: latents    INTEGER[]
-- column: hookpoint   VARCHAR
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: explainer   VARCHAR
-- column: sample      VARCHAR
-- column: text        VARCHAR
-- column: status      VARCHAR
-- column: reason      VARCHAR
-- grain: hookpoint, latent, explainer
WITH wanted AS (
    SELECT unnest($hookpoints) AS hookpoint, unnest($latents) AS latent
),
ranked AS (
    SELECT
        e.hookpoint, e.latent, e.explanation, e.explainer, e.sample, e."text", e.status, e.reason,
        row_number() OVER (
            PARTITION BY e.hookpoint, e.latent, e.explainer
            ORDER BY e.created_at DESC NULLS LAST, e.explanation
        ) AS age
    FROM explanations AS e
    JOIN wanted AS w USING (hookpoint, latent)
    WHERE e.capture = $capture
)
SELECT hookpoint, latent, explanation, explainer, sample, "text", status, reason
FROM ranked
WHERE age = 1
ORDER BY hookpoint, latent, explainer
