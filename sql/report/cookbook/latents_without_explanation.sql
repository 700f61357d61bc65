-- name: report/cookbook/latents_without_explanation
-- Which latents that fire have no explanation, and why? The most active first.
-- column: capture   VARCHAR
-- column: hookpoint VARCHAR
-- column: latent    INTEGER
-- column: density   DOUBLE
-- column: status    VARCHAR   of the latent
-- column: reason    VARCHAR   of the newest attempt; NULL where there was none
-- grain: capture, hookpoint, latent
WITH newest AS (
    SELECT capture, hookpoint, latent, status, coalesce(reason, status) AS reason
    FROM explanations
    QUALIFY row_number() OVER (
        PARTITION BY capture, hookpoint, latent
        ORDER BY CASE WHEN status = 'ok' THEN 0 ELSE 1 END, created_at DESC, explanation
    ) = 1
)
SELECT l.capture, l.hookpoint, l.latent, l.density, l.status, e.reason
FROM latents AS l
LEFT JOIN newest AS e
    ON l.capture = e.capture AND l.hookpoint = e.hookpoint AND l.latent = e.latent
WHERE l.n_activations > 0 AND (e.status IS NULL OR e.status <> 'ok')
ORDER BY l.density DESC, l.capture, l.hookpoint, l.latent
LIMIT 100
