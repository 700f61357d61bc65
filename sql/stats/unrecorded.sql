-- name: stats/unrecorded
-- Rows of `latents` of some buckets that `history` lacks: of a corpus that it has no row of.
-- param: capture        VARCHAR
-- param: hookpoint      VARCHAR
-- param: buckets        INTEGER[]
-- param: bucket_latents INTEGER
-- param: run            VARCHAR
-- param: created_at     TIMESTAMP WITH TIME ZONE
-- column: capture       VARCHAR
-- column: hookpoint     VARCHAR
-- column: latent        INTEGER
-- column: n_tokens      BIGINT
-- column: n_activations BIGINT
-- column: n_windows     BIGINT
-- column: density       DOUBLE
-- column: max           FLOAT
-- column: mean          FLOAT
-- column: top_tokens    STRUCT(token_id INTEGER, count BIGINT, pmi DOUBLE)[]
-- column: single_token  DOUBLE
-- column: status        VARCHAR
-- column: run           VARCHAR
-- column: created_at    TIMESTAMP WITH TIME ZONE
-- grain: capture, hookpoint, latent, n_tokens
SELECT
    $capture AS capture, $hookpoint AS hookpoint, l.latent, l.n_tokens, l.n_activations,
    l.n_windows, l.density, l."max", l.mean, l.top_tokens, l.single_token, l.status,
    $run AS run, $created_at AS created_at
FROM latents AS l
ANTI JOIN history AS h
    ON h.capture = l.capture AND h.hookpoint = l.hookpoint AND h.latent = l.latent
    AND h.n_tokens = l.n_tokens
WHERE l.capture = $capture
    AND l.hookpoint = $hookpoint
    AND list_contains($buckets::INTEGER[], l.latent // $bucket_latents::INTEGER)
ORDER BY l.latent
