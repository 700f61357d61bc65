-- name: report/drift
-- How a latent changed over time: one row for each moment at which it was counted over a larger
-- corpus or scored anew, with what held before. What a moment does not tell is as it was.
--
-- overlap: Jaccard index of the top tokens with those of the moment before, 1 if they are the same.
-- param: capture    VARCHAR
-- param: hookpoints VARCHAR[]   only these; empty takes all
-- param: latents    INTEGER[]   only these; empty takes all
-- param: explainer  VARCHAR
-- param: scorer     VARCHAR
-- param: metric     VARCHAR
-- column: hookpoint      VARCHAR
-- column: latent         INTEGER
-- column: moment         INTEGER                     from 1
-- column: at             TIMESTAMP WITH TIME ZONE
-- column: n_tokens       BIGINT
-- column: density        DOUBLE
-- column: density_before DOUBLE
-- column: overlap        DOUBLE
-- column: status         VARCHAR
-- column: status_before  VARCHAR
-- column: value          DOUBLE
-- column: value_before   DOUBLE
-- column: ci_low         DOUBLE
-- column: ci_high        DOUBLE
-- column: explanation    VARCHAR                     that the value is of
-- column: text           VARCHAR
-- column: is_new_text    BOOLEAN                     whether another text was scored before
-- column: top_tokens     INTEGER[]                   ids, the most frequent first
-- grain: hookpoint, latent, moment
WITH counted AS (
    SELECT hookpoint, latent, created_at AS "at", n_tokens, density, status,
        list_transform(top_tokens, lambda t: t.token_id) AS top
    FROM history
    WHERE capture = $capture
        AND (len($hookpoints::VARCHAR[]) = 0 OR list_contains($hookpoints::VARCHAR[], hookpoint))
        AND (len($latents::INTEGER[]) = 0 OR list_contains($latents::INTEGER[], latent))
),
explained AS (
    SELECT hookpoint, latent, explanation, "text", created_at,
        lead(created_at) OVER (
            PARTITION BY hookpoint, latent ORDER BY created_at, explanation
        ) AS replaced_at
    FROM explanations
    WHERE capture = $capture AND explainer = $explainer AND created_at IS NOT NULL
        AND (len($hookpoints::VARCHAR[]) = 0 OR list_contains($hookpoints::VARCHAR[], hookpoint))
        AND (len($latents::INTEGER[]) = 0 OR list_contains($latents::INTEGER[], latent))
),
-- What is measured of an explanation again once another one stands, its interval most often, is
-- no change of the latent: it counts from when the explanation was made.
measured AS (
    SELECT s.hookpoint, s.latent, s.settings, s."value", s.ci_low, s.ci_high, s.explanation,
        e."text",
        CASE WHEN s.created_at >= e.replaced_at THEN e.created_at ELSE s.created_at END AS "at"
    FROM scores AS s
    JOIN explained AS e USING (hookpoint, latent, explanation)
    WHERE s.capture = $capture
        AND s.scorer = $scorer
        AND s.metric = $metric
        AND s."value" IS NOT NULL
),
valued AS (
    SELECT hookpoint, latent, "at", "value", ci_low, ci_high, explanation, "text"
    FROM measured
    QUALIFY row_number() OVER (
        PARTITION BY hookpoint, latent, "at" ORDER BY explanation, settings
    ) = 1
),
moments AS (
    SELECT hookpoint, latent, "at",
        row_number() OVER (PARTITION BY hookpoint, latent ORDER BY "at") AS moment
    FROM (
        SELECT hookpoint, latent, "at" FROM counted
        UNION
        SELECT hookpoint, latent, "at" FROM valued
    )
    WHERE "at" IS NOT NULL
),
-- What was known at each moment: the newest count and the newest score until then.
known AS (
    SELECT m.hookpoint, m.latent, m.moment, m."at", c.n_tokens, c.density, c.status, c.top,
        v."value", v.ci_low, v.ci_high, v.explanation, v."text"
    FROM moments AS m
    ASOF LEFT JOIN counted AS c
        ON c.hookpoint = m.hookpoint AND c.latent = m.latent AND c."at" <= m."at"
    ASOF LEFT JOIN valued AS v
        ON v.hookpoint = m.hookpoint AND v.latent = m.latent AND v."at" <= m."at"
),
followed AS (
    SELECT *,
        lag(density) OVER latents AS density_before,
        lag(top) OVER latents AS top_before,
        lag(status) OVER latents AS status_before,
        lag("value") OVER latents AS value_before,
        lag("text") OVER latents AS text_before
    FROM known
    WINDOW latents AS (PARTITION BY hookpoint, latent ORDER BY moment)
)
SELECT
    hookpoint,
    latent,
    moment::INTEGER AS moment,
    "at",
    n_tokens,
    density,
    density_before,
    CASE WHEN top IS NOT NULL AND top_before IS NOT NULL
        THEN len(list_intersect(top, top_before))
            / nullif(len(list_distinct(list_concat(top, top_before))), 0) END AS overlap,
    status,
    status_before,
    "value",
    value_before,
    ci_low,
    ci_high,
    explanation,
    "text",
    coalesce("text" <> text_before, false) AS is_new_text,
    top AS top_tokens
FROM followed
ORDER BY hookpoint, latent, moment
