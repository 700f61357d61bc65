-- name: report/stale
-- What of the explanations and scores of some latents of a hookpoint is out of date, and why: one
-- row for each latent and scorer that has a reason, in the order in which they are worth redoing.
--
-- Of each latent that explanation counts that was made with the present settings, prompt and
-- examples, else the newest; of its scores those of the scorer's main metric. Digests are given as
-- lists: of settings by turn (how often a language model was asked anew), of samples by level (how
-- often the number of examples was doubled).
--
-- reasons:
--   unexplained  there is no explanation by this explainer
--   prompt       another prompt than the present one
--   settings     other settings of the explainer, or another model
--   tokens       from the examples of fewer captured tokens
--   examples     from examples of other settings, or drawn otherwise
--   failed       its explanation, or one of its judgements, failed by what may pass, or in a way
--                that $failures names
--   unscored     never scored
--   judge        other settings of the scorer, or another judge
--   older        scored before $before; of scorers that ask a language model
--   wider        the interval is wider than $wider, and more examples can be drawn. Where there is
--                any, the widest $least are: their null is made of each other's explanations.
--
-- What to do: draw at `level`, explain at `explain_turn`, judge at `turn`. What is there by then is
-- not done again. priority: 0 missing or failed, 1 changed, 2 older or wider.
-- param: capture        VARCHAR
-- param: hookpoint      VARCHAR
-- param: explainer      VARCHAR
-- param: latents        INTEGER[]    those that the settings choose
-- param: bucket_latents INTEGER
-- param: buckets        INTEGER[]    of `samples`
-- param: samples        VARCHAR[]    that stand for a bucket by now
-- param: levels         INTEGER[]    of `samples`
-- param: earlier        VARCHAR[]    samples of the same settings and fewer tokens
-- param: earlier_levels INTEGER[]    of `earlier`
-- param: explained_by   VARCHAR[]    settings of the explainer, by turn
-- param: prompt         VARCHAR      NULL if the explainer has none
-- param: scorers        VARCHAR[]
-- param: headlines      VARCHAR[]    main metric of each scorer
-- param: asking         BOOLEAN[]    whether each scorer asks a language model
-- param: judges         VARCHAR[]    scorer of each of `judged`
-- param: judged         VARCHAR[]    settings of scorers
-- param: turns          INTEGER[]    of `judged`
-- param: transient      VARCHAR[]    statuses of what failed by what may pass
-- param: failures       VARCHAR[]    other statuses to do again
-- param: before         TIMESTAMP WITH TIME ZONE    NULL: no score is too old
-- param: wider          DOUBLE       NULL: no interval is too wide
-- param: least          BIGINT
-- param: n_score        BIGINT       activating windows drawn for the scorers at level 0
-- param: score_share    DOUBLE       share of the documents that scorers may see
-- column: capture      VARCHAR
-- column: hookpoint    VARCHAR
-- column: latent       INTEGER
-- column: explainer    VARCHAR
-- column: scorer       VARCHAR
-- column: explanation  VARCHAR                     NULL if there is none
-- column: reasons      VARCHAR[]
-- column: priority     INTEGER
-- column: is_explained BOOLEAN                     whether the explanation stands as it is
-- column: level        INTEGER
-- column: explain_turn INTEGER
-- column: turn         INTEGER
-- column: value        DOUBLE
-- column: width        DOUBLE                      of the interval
-- column: scored_at    TIMESTAMP WITH TIME ZONE
-- grain: capture, hookpoint, latent, explainer, scorer
WITH chosen AS (
    SELECT DISTINCT unnest($latents::INTEGER[]) AS latent
),
asked AS (
    SELECT unnest($scorers::VARCHAR[]) AS scorer, unnest($headlines::VARCHAR[]) AS metric,
        unnest($asking::BOOLEAN[]) AS asks
),
present AS (
    SELECT unnest($buckets::INTEGER[]) AS bucket, unnest($samples::VARCHAR[]) AS sample,
        unnest($levels::INTEGER[]) AS level
),
past AS (
    SELECT unnest($earlier::VARCHAR[]) AS sample, unnest($earlier_levels::INTEGER[]) AS level
),
judging AS (
    SELECT unnest($judges::VARCHAR[]) AS scorer, unnest($judged::VARCHAR[]) AS settings,
        unnest($turns::INTEGER[]) AS turn
),
explained AS (
    SELECT
        e.latent, e.explanation, e.status, e.created_at,
        e.prompt IS NOT DISTINCT FROM $prompt::VARCHAR AS has_prompt,
        CASE WHEN list_contains($explained_by::VARCHAR[], e.settings)
            THEN list_position($explained_by::VARCHAR[], e.settings) - 1 END AS turn,
        present.level,
        past.level AS past_level
    FROM explanations AS e
    LEFT JOIN present
        ON present.bucket = e.latent // $bucket_latents::INTEGER AND present.sample = e.sample
    LEFT JOIN past ON past.sample = e.sample
    WHERE e.capture = $capture AND e.hookpoint = $hookpoint AND e.explainer = $explainer
),
standing AS (
    SELECT *, coalesce(has_prompt AND turn IS NOT NULL AND level IS NOT NULL, false) AS is_present
    FROM explained
    QUALIFY row_number() OVER (
        PARTITION BY latent
        ORDER BY coalesce(has_prompt AND turn IS NOT NULL AND level IS NOT NULL, false) DESC,
            created_at DESC NULLS LAST, explanation
    ) = 1
),
scored AS (
    SELECT
        s.latent, s.explanation, s.scorer, s.settings, judging.turn, s."value", s.status,
        s.ci_high - s.ci_low AS width, s.created_at
    FROM scores AS s
    JOIN asked USING (scorer, metric)
    LEFT JOIN judging ON judging.scorer = s.scorer AND judging.settings = s.settings
    WHERE s.capture = $capture AND s.hookpoint = $hookpoint
    QUALIFY row_number() OVER (
        PARTITION BY s.latent, s.explanation, s.scorer
        ORDER BY judging.turn DESC NULLS LAST, s.created_at DESC NULLS LAST, s.settings
    ) = 1
),
-- Borrowed explanations too: those of the same sample.
tried AS (
    SELECT DISTINCT j.latent, j.scorer, j.settings, e.level
    FROM judgements AS j
    JOIN explained AS e USING (explanation)
    WHERE j.capture = $capture
        AND j.hookpoint = $hookpoint
        AND list_contains($transient::VARCHAR[], j.status)
),
states AS (
    SELECT
        c.latent, a.scorer, a.asks, e.explanation, e.turn AS explain_turn, e.level,
        coalesce(e.level, e.past_level, 0) AS reached, e.past_level, e.has_prompt,
        coalesce(e.is_present, false) AS is_present,
        coalesce(list_contains($transient::VARCHAR[], e.status), false) AS is_passing,
        coalesce(list_contains($failures::VARCHAR[], e.status), false) AS is_failed,
        s.settings IS NOT NULL AS is_scored, s.turn, s."value", s.width,
        s.created_at AS scored_at,
        t.settings IS NOT NULL AS has_passing,
        coalesce(list_contains($failures::VARCHAR[], s.status), false) AS has_failed,
        coalesce(l.n_windows * $score_share::DOUBLE
            > $n_score::BIGINT * 2 ** coalesce(e.level, 0), false) AS has_more
    FROM chosen AS c
    CROSS JOIN asked AS a
    LEFT JOIN standing AS e USING (latent)
    LEFT JOIN scored AS s
        ON s.latent = c.latent AND s.explanation = e.explanation AND s.scorer = a.scorer
    LEFT JOIN tried AS t
        ON t.latent = c.latent AND t.scorer = a.scorer AND t.settings = s.settings
        AND t.level = e.level
    LEFT JOIN latents AS l
        ON l.capture = $capture AND l.hookpoint = $hookpoint AND l.latent = c.latent
),
-- Of those whose sample can be doubled, the widest first within each sample of a scorer.
ranked AS (
    SELECT *,
        row_number() OVER (
            PARTITION BY scorer, level, can_widen ORDER BY width DESC, latent
        ) AS place,
        max(width) OVER (PARTITION BY scorer, level, can_widen) AS widest
    FROM (
        SELECT *,
            is_present AND turn IS NOT NULL AND width IS NOT NULL AND level < 3
                AND has_more AS can_widen
        FROM states
    )
),
judged_by AS (
    SELECT *,
        list_filter([
            CASE WHEN explanation IS NULL THEN 'unexplained' END,
            CASE WHEN explanation IS NOT NULL AND NOT has_prompt THEN 'prompt' END,
            CASE WHEN explanation IS NOT NULL AND has_prompt AND explain_turn IS NULL
                THEN 'settings' END,
            CASE WHEN explanation IS NOT NULL AND level IS NULL AND past_level IS NOT NULL
                THEN 'tokens' END,
            CASE WHEN explanation IS NOT NULL AND level IS NULL AND past_level IS NULL
                THEN 'examples' END,
            CASE WHEN is_present AND (
                    is_passing OR is_failed OR (turn IS NOT NULL AND (has_passing OR has_failed))
                ) THEN 'failed' END,
            CASE WHEN is_present AND NOT (is_passing OR is_failed) AND NOT is_scored
                THEN 'unscored' END,
            CASE WHEN is_present AND is_scored AND turn IS NULL THEN 'judge' END,
            CASE WHEN is_present AND turn IS NOT NULL AND "value" IS NOT NULL AND asks
                    AND scored_at < $before::TIMESTAMP WITH TIME ZONE
                THEN 'older' END,
            CASE WHEN can_widen AND (
                    width > $wider::DOUBLE
                    OR (widest > $wider::DOUBLE AND place <= $least::BIGINT)
                ) THEN 'wider' END
        ], lambda reason: reason IS NOT NULL) AS reasons
    FROM ranked
)
SELECT
    $capture AS capture,
    $hookpoint AS hookpoint,
    latent,
    $explainer AS explainer,
    scorer,
    explanation,
    reasons,
    CASE WHEN list_has_any(reasons, ['unexplained', 'unscored', 'failed']) THEN 0
        WHEN list_has_any(reasons, ['older', 'wider']) AND len(reasons) = 1 THEN 2
        WHEN reasons = ['older', 'wider'] THEN 2
        ELSE 1 END AS priority,
    is_present AND NOT (is_passing OR is_failed OR list_contains(reasons, 'wider'))
        AS is_explained,
    (reached + CASE WHEN list_contains(reasons, 'wider') THEN 1 ELSE 0 END)::INTEGER AS level,
    CASE WHEN NOT is_present THEN 0
        WHEN is_failed THEN explain_turn + 1
        ELSE explain_turn END::INTEGER AS explain_turn,
    CASE WHEN NOT is_present OR is_failed OR turn IS NULL OR list_contains(reasons, 'wider') THEN 0
        WHEN has_failed OR list_contains(reasons, 'older') THEN turn + 1
        ELSE turn END::INTEGER AS turn,
    "value",
    width,
    scored_at
FROM judged_by
WHERE len(reasons) > 0
ORDER BY priority, scored_at NULLS FIRST, width DESC NULLS LAST, latent, scorer
