-- name: macros/newest_explanations
-- The explanations of a capture that stand: of each explainer the newest one of a latent.
CREATE OR REPLACE MACRO newest_explanations(of_capture) AS TABLE
SELECT
    hookpoint, latent, explanation, explainer, settings, sample, "text", status, reason, detail,
    reply_keys, created_at
FROM explanations
WHERE capture = of_capture
QUALIFY row_number() OVER (
    PARTITION BY hookpoint, latent, explainer
    ORDER BY created_at DESC NULLS LAST, explanation
) = 1
