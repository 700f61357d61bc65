-- name: report/cookbook/explanations_in_common
-- Which explanations are given to several latents? Feature splitting, or an explainer that
-- says the same of everything.
-- column: capture      VARCHAR
-- column: hookpoint    VARCHAR
-- column: explainer    VARCHAR
-- column: text         VARCHAR
-- column: n_latents    BIGINT
-- column: first_latent INTEGER
-- column: last_latent  INTEGER
-- grain: capture, hookpoint, explainer, text
WITH newest AS (
    SELECT capture, hookpoint, latent, explanation, explainer, "text", status, reason
    FROM explanations
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, latent, explainer ORDER BY created_at DESC, explanation
    ) = 1
)
SELECT
    capture, hookpoint, explainer, "text", count(*) AS n_latents,
    min(latent) AS first_latent, max(latent) AS last_latent
FROM newest
WHERE "text" IS NOT NULL
GROUP BY capture, hookpoint, explainer, "text"
HAVING count(*) > 1
ORDER BY n_latents DESC, capture, hookpoint, explainer, "text"
LIMIT 50
