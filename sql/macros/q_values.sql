-- name: macros/q_values
-- The smallest false discovery rate at which each standing score of a metric counts as above the
-- null, over the latents of its hookpoint, explainer and scorer (Benjamini and Hochberg 1995):
-- SELECT * FROM q_values('my-capture', 'balanced_accuracy') WHERE q_value <= 0.05.
CREATE OR REPLACE MACRO q_values(of_capture, of_metric) AS TABLE
WITH ranked AS (
    SELECT
        hookpoint, latent, explanation, explainer, scorer, p_value,
        p_value * count(*) OVER (PARTITION BY hookpoint, explainer, scorer)
            / count(*) OVER (PARTITION BY hookpoint, explainer, scorer ORDER BY p_value) AS rate
    FROM newest_scores(of_capture)
    WHERE metric = of_metric AND p_value IS NOT NULL
)
SELECT
    hookpoint, latent, explanation, explainer, scorer, p_value,
    min(rate) OVER (
        PARTITION BY hookpoint, explainer, scorer ORDER BY p_value DESC
    ) AS q_value
FROM ranked
