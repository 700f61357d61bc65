-- name: explain/explainers
-- The explainers whose explanations of latents are held, and of which captures.
-- column: capture   VARCHAR
-- column: explainer VARCHAR
-- column: n         BIGINT
-- grain: capture, explainer
SELECT capture, explainer, count(*) AS n
FROM explanations
WHERE status = 'ok'
    AND "text" <> ''
GROUP BY capture, explainer
ORDER BY capture, explainer
