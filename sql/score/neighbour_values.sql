-- name: score/neighbour_values
-- What the neighbours do in the windows that were drawn because they fire there: the activation of
-- the window's neighbour at each of its tokens, 0 where it is silent.
-- param: capture   VARCHAR
-- param: hookpoint VARCHAR
-- param: sample    VARCHAR
-- param: latents   INTEGER[]
-- column: latent  INTEGER
-- column: example INTEGER
-- column: values  DOUBLE[]   one a token
-- grain: latent, example
WITH windows AS (
    SELECT latent, example, neighbour, "start" AS first_token, len(tokens) AS n
    FROM examples
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND sample = $sample
        AND role = 'score'
        AND stratum = 'neighbour'
        AND neighbour IS NOT NULL
        AND latent IN (SELECT unnest($latents::INTEGER[]))
),
places AS (
    SELECT latent, example, neighbour, unnest(range(first_token, first_token + n)) AS token
    FROM windows
),
fired AS (
    SELECT latent AS neighbour, token, "value"
    FROM activations
    WHERE capture = $capture
        AND hookpoint = $hookpoint
        AND latent IN (SELECT neighbour FROM windows)
)
SELECT
    p.latent, p.example,
    list(coalesce(f."value", 0)::DOUBLE ORDER BY p.token) AS "values"
FROM places AS p
LEFT JOIN fired AS f USING (neighbour, token)
GROUP BY p.latent, p.example
ORDER BY p.latent, p.example
