-- name: report/unexplained
-- The latents that have neither an explanation nor a score, in groups that share a reason:
-- `state` is the status of the newest failed explanation, or why none was tried.
-- param: capture  VARCHAR
-- param: metric   VARCHAR
-- param: n_listed BIGINT   latents named in each group
-- param: n_groups BIGINT   largest groups returned
-- column: hookpoint VARCHAR
-- column: status    VARCHAR     of the latents
-- column: explainer VARCHAR     of the failed explanation
-- column: state     VARCHAR
-- column: reason    VARCHAR
-- column: n         BIGINT
-- column: latents   INTEGER[]   lowest numbers first
-- column: n_left    BIGINT      latents in groups that are not returned
-- grain: hookpoint, status, explainer, state, reason
WITH settled AS (
    SELECT hookpoint, latent FROM newest_explanations($capture) WHERE status = 'ok'
    UNION
    SELECT hookpoint, latent
    FROM newest_scores($capture)
    WHERE metric = $metric AND "value" IS NOT NULL
),
failed AS (
    SELECT hookpoint, latent, explainer, status AS state, coalesce(reason, '') AS reason
    FROM newest_explanations($capture)
    QUALIFY row_number() OVER (
        PARTITION BY hookpoint, latent
        ORDER BY created_at DESC NULLS LAST, explainer
    ) = 1
),
known AS (
    SELECT
        l.hookpoint, l.latent, l.status, f.explainer,
        coalesce(f.state, CASE WHEN l.status IN ('dead', 'rare') THEN l.status ELSE 'not explained' END)
            AS state,
        coalesce(
            f.reason,
            CASE l.status
                WHEN 'dead' THEN 'never fires in the corpus'
                WHEN 'rare' THEN 'fires in fewer windows than sampling.min_windows'
                ELSE 'not among the latents that were explained'
            END
        ) AS reason
    FROM latents AS l
    LEFT JOIN failed AS f USING (hookpoint, latent)
    ANTI JOIN settled AS s USING (hookpoint, latent)
    WHERE l.capture = $capture
),
grouped AS (
    SELECT
        hookpoint, status, explainer, state, reason,
        count(*) AS n,
        min(latent, $n_listed) AS latents
    FROM known
    GROUP BY hookpoint, status, explainer, state, reason
),
ranked AS (
    SELECT
        hookpoint, status, explainer, state, reason, n, latents,
        row_number() OVER (
            ORDER BY n DESC, hookpoint, status, state, reason, explainer
        ) AS place
    FROM grouped
),
split AS (
    SELECT
        hookpoint, status, explainer, state, reason, n, latents, place,
        coalesce(sum(n) FILTER (place > $n_groups) OVER (), 0)::BIGINT AS n_left
    FROM ranked
)
SELECT hookpoint, status, explainer, state, reason, n, latents, n_left
FROM split
WHERE place <= $n_groups
ORDER BY hookpoint, n DESC, status, state, reason, explainer
