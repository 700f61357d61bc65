-- name: stats/latents
-- What every latent of one unit does, silent ones too. Counts are over the captured tokens that
-- belong to a document. `pmi` is log2 P(token, firing) / (P(token) P(firing)): bits by which a
-- firing makes the token likelier.
-- param: capture     VARCHAR
-- param: hookpoint   VARCHAR
-- param: bucket      INTEGER
-- param: first       INTEGER   first latent of the unit
-- param: stop        INTEGER   latent after its last one
-- param: shares      DOUBLE[]  of the activations below each value quantile
-- param: n_top       BIGINT    tokens listed
-- param: min_windows BIGINT
-- param: dense_above DOUBLE
-- column: latent        INTEGER
-- column: n_activations BIGINT
-- column: n_windows     BIGINT
-- column: n_documents   BIGINT
-- column: n_tokens      BIGINT
-- column: density       DOUBLE
-- column: max           FLOAT
-- column: mean          FLOAT
-- column: quantiles     FLOAT[]
-- column: top_tokens    STRUCT(token_id INTEGER, "count" BIGINT, pmi DOUBLE)[]
-- column: single_token  DOUBLE
-- column: status        VARCHAR
-- grain: latent
WITH wanted AS (
    SELECT unnest(range($first, $stop))::INTEGER AS latent
),
size AS (
    SELECT coalesce(sum(length), 0)::BIGINT AS n_tokens FROM tiles
),
counted AS (
    SELECT
        latent,
        sum(n_activations)::BIGINT AS n_activations,
        count(*) AS n_windows,
        max(peak) AS max,
        sum(total) AS total
    FROM windows
    GROUP BY latent
),
per_document AS (
    SELECT w.latent, t.document
    FROM windows AS w
    INNER JOIN tiles AS t ON w.number = t.number
    GROUP BY w.latent, t.document
),
spread AS (
    SELECT latent, count(*) AS n_documents FROM per_document GROUP BY latent
),
fired AS (
    SELECT a.latent, a.value, c.token_id
    FROM activations AS a
    INNER JOIN corpus_tokens AS c ON a.token = c.token
    WHERE a.capture = $capture AND a.hookpoint = $hookpoint AND a.bucket = $bucket
),
levels AS (
    SELECT latent, quantile_disc(value, $shares::DOUBLE[]) AS quantiles FROM fired GROUP BY latent
),
pairs AS (
    SELECT latent, token_id, count(*) AS n FROM fired GROUP BY latent, token_id
),
best AS (
    SELECT latent, unnest(max(n * 4294967296 + 2147483647 - token_id, $n_top::BIGINT)) AS packed
    FROM pairs
    GROUP BY latent
),
unpacked AS (
    SELECT
        latent,
        packed >> 32 AS n,
        (2147483647 - packed % 4294967296)::INTEGER AS token_id
    FROM best
),
frequencies AS (
    SELECT token_id, count(*) AS n FROM corpus_tokens GROUP BY token_id
),
top AS (
    SELECT
        u.latent,
        list(
            {
                'token_id': u.token_id,
                'count': u.n,
                'pmi': log2(u.n::DOUBLE * s.n_tokens / (f.n::DOUBLE * c.n_activations))
            }
            ORDER BY u.n DESC, u.token_id
        ) AS top_tokens,
        max(u.n / c.n_activations) AS single_token
    FROM unpacked AS u
    INNER JOIN frequencies AS f ON u.token_id = f.token_id
    INNER JOIN counted AS c ON u.latent = c.latent
    CROSS JOIN size AS s
    GROUP BY u.latent
)
SELECT
    w.latent,
    coalesce(c.n_activations, 0) AS n_activations,
    coalesce(c.n_windows, 0) AS n_windows,
    coalesce(d.n_documents, 0) AS n_documents,
    s.n_tokens,
    coalesce(c.n_activations / s.n_tokens, 0) AS density,
    c.max,
    (c.total / c.n_activations)::FLOAT AS mean,
    coalesce(l.quantiles, []) AS quantiles,
    coalesce(t.top_tokens, []) AS top_tokens,
    t.single_token,
    CASE
        WHEN c.n_activations IS NULL THEN 'dead'
        WHEN c.n_windows < $min_windows THEN 'rare'
        WHEN c.n_activations / s.n_tokens > $dense_above THEN 'dense'
        ELSE 'ok'
    END AS status
FROM wanted AS w
CROSS JOIN size AS s
LEFT JOIN counted AS c ON w.latent = c.latent
LEFT JOIN spread AS d ON w.latent = d.latent
LEFT JOIN levels AS l ON w.latent = l.latent
LEFT JOIN top AS t ON w.latent = t.latent
ORDER BY w.latent
