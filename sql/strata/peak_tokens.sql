-- name: strata/peak_tokens
-- The token ids on which each latent peaks most often; of equal ones the lower first.
-- param: n_tokens BIGINT   kept for each latent
-- column: latent   INTEGER
-- column: token_id INTEGER
-- column: n_peaks  BIGINT    windows that peak there
-- grain: latent, token_id
CREATE OR REPLACE TEMP TABLE peak_tokens AS
WITH eligible AS (
    SELECT DISTINCT latent FROM cells
),
counted AS (
    SELECT w.latent, l.text[w.peak_token + 1] AS token_id, count(*) AS n_peaks
    FROM windows AS w
    SEMI JOIN eligible AS e ON w.latent = e.latent
    CROSS JOIN lookup AS l
    GROUP BY w.latent, token_id
)
SELECT latent, token_id, n_peaks
FROM counted
QUALIFY row_number() OVER (PARTITION BY latent ORDER BY n_peaks DESC, token_id) <= $n_tokens
