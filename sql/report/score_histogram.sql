-- name: report/score_histogram
-- Latents by score, and by the score of their borrowed explanations (the null), in bins of equal
-- width from $low to $high, between which all values lie; the last bin holds $high.
-- param: capture VARCHAR
-- param: metric  VARCHAR
-- param: low     DOUBLE
-- param: high    DOUBLE
-- param: n_bins  INTEGER
-- column: hookpoint VARCHAR
-- column: explainer VARCHAR
-- column: scorer    VARCHAR
-- column: series    VARCHAR   own or null
-- column: bin       INTEGER   0 is the lowest
-- column: n         BIGINT
-- grain: hookpoint, explainer, scorer, series, bin
WITH own AS (
    SELECT hookpoint, explainer, scorer, "value", null_value
    FROM newest_scores($capture)
    WHERE metric = $metric AND "value" IS NOT NULL
),
pooled AS (
    SELECT hookpoint, explainer, scorer, 'own' AS series, "value" AS x FROM own
    UNION ALL
    SELECT hookpoint, explainer, scorer, 'null' AS series, null_value AS x
    FROM own
    WHERE null_value IS NOT NULL
),
binned AS (
    SELECT
        hookpoint, explainer, scorer, series,
        least(
            greatest(floor((x - $low) / ($high - $low) * $n_bins + 1e-9), 0), $n_bins - 1
        )::INTEGER AS bin
    FROM pooled
)
SELECT hookpoint, explainer, scorer, series, bin, count(*) AS n
FROM binned
GROUP BY hookpoint, explainer, scorer, series, bin
ORDER BY hookpoint, explainer, scorer, series, bin
