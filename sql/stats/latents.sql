-- name: stats/latents
-- What each latent of a range does, those that never fire too, from what
-- `lakeinterp.sampling.counts` counted: the relations `counted`, `listed`, `bars` and `placed`, and
-- `frequencies` and `parts` of the whole corpus. Counts are over the captured tokens that belong to
-- a document; special tokens count only where they stand inside one, and tokens that capture
-- excludes cannot occur. `pmi` is log2 P(token, firing) / (P(token) P(firing)): bits by which a
-- firing makes the token likelier; before and after, P(token) is the share of captured tokens that
-- have it there. The bars of the histogram are half octaves, 2^(k/2) to 2^((k+1)/2) and the same
-- below zero; the end nearer to zero belongs to a bar, and empty bars are left out.
-- `position_bias` is the Jensen-Shannon divergence, in bits, between the places of the activations
-- and of all tokens over the parts of the context (Lin 1991, "Divergence measures based on the
-- Shannon entropy", IEEE Transactions on Information Theory 37(1)): 0 if the latent fires everywhere
-- alike, 1 if it fires only where no other token is. By chance alone it is about
-- (parts - 1) / (8 ln 2 n_activations).
-- param: first       INTEGER   first latent of the range
-- param: stop        INTEGER   latent after its last one
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
-- column: histogram     STRUCT(low DOUBLE, high DOUBLE, "count" BIGINT)[]
-- column: top_tokens    STRUCT(token_id INTEGER, "count" BIGINT, pmi DOUBLE)[]
-- column: top_before    STRUCT(token_id INTEGER, "count" BIGINT, pmi DOUBLE)[]
-- column: top_after     STRUCT(token_id INTEGER, "count" BIGINT, pmi DOUBLE)[]
-- column: single_token  DOUBLE   of the activations, on the token with the most
-- column: special_share DOUBLE   of the activations, on special tokens inside documents
-- column: first_share   DOUBLE   of the activations, on the first token of a document's span
-- column: position_bias DOUBLE
-- column: status        VARCHAR
-- grain: latent
WITH wanted AS (
    SELECT unnest(range($first, $stop))::INTEGER AS latent
),
size AS (
    SELECT coalesce(sum(length), 0)::BIGINT AS n_tokens FROM tiles
),
histograms AS (
    SELECT
        latent,
        list(
            {
                'low': side * 2 ** ((step + (side < 0)::INTEGER) / 2),
                'high': side * 2 ** ((step + (side > 0)::INTEGER) / 2),
                'count': n
            }
            ORDER BY side, side * step
        ) AS histogram
    FROM bars
    GROUP BY latent
),
weighed AS (
    SELECT
        u.latent,
        u.side,
        u.n,
        {
            'token_id': u.token_id,
            'count': u.n,
            'pmi': log2(
                u.n::DOUBLE * s.n_tokens / (
                    c.n_activations::DOUBLE * CASE u.side
                        WHEN 'at' THEN f.n_at
                        WHEN 'before' THEN f.n_before
                        ELSE f.n_after
                    END
                )
            )
        } AS token
    FROM listed AS u
    INNER JOIN counted AS c ON u.latent = c.latent
    INNER JOIN frequencies AS f ON u.token_id = f.token_id
    CROSS JOIN size AS s
),
top AS (
    SELECT
        latent,
        list(token ORDER BY n DESC, token.token_id) FILTER (WHERE side = 'at') AS itself,
        list(token ORDER BY n DESC, token.token_id) FILTER (WHERE side = 'before') AS before,
        list(token ORDER BY n DESC, token.token_id) FILTER (WHERE side = 'after') AS after,
        max(n) FILTER (WHERE side = 'at') AS n_most
    FROM weighed
    GROUP BY latent
),
places AS (
    SELECT
        p.latent,
        sum(
            p.n / c.n_activations * log2(p.n / c.n_activations)
            + a.share * log2(a.share)
            - (p.n / c.n_activations + a.share) * log2((p.n / c.n_activations + a.share) / 2)
            - a.share
        ) / 2 + 0.5 AS bias
    FROM placed AS p
    INNER JOIN counted AS c ON p.latent = c.latent
    INNER JOIN parts AS a ON p.part = a.part
    GROUP BY p.latent
)
SELECT
    w.latent,
    coalesce(c.n_activations, 0)::BIGINT AS n_activations,
    coalesce(c.n_windows, 0)::BIGINT AS n_windows,
    coalesce(c.n_documents, 0)::BIGINT AS n_documents,
    s.n_tokens,
    coalesce(c.n_activations / s.n_tokens, 0) AS density,
    c.max,
    (c.total / c.n_activations)::FLOAT AS mean,
    coalesce(c.quantiles, []) AS quantiles,
    coalesce(h.histogram, []) AS histogram,
    coalesce(t.itself, []) AS top_tokens,
    coalesce(t.before, []) AS top_before,
    coalesce(t.after, []) AS top_after,
    t.n_most / c.n_activations AS single_token,
    c.n_special / c.n_activations AS special_share,
    c.n_first / c.n_activations AS first_share,
    CASE WHEN p.bias < 0 THEN 0 ELSE p.bias END AS position_bias,
    CASE
        WHEN c.n_activations IS NULL THEN 'dead'
        WHEN c.n_windows < $min_windows THEN 'rare'
        WHEN c.n_activations / s.n_tokens > $dense_above THEN 'dense'
        ELSE 'ok'
    END AS status
FROM wanted AS w
CROSS JOIN size AS s
LEFT JOIN counted AS c ON w.latent = c.latent
LEFT JOIN histograms AS h ON w.latent = h.latent
LEFT JOIN top AS t ON w.latent = t.latent
LEFT JOIN places AS p ON w.latent = p.latent
ORDER BY w.latent
