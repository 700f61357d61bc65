-- name: score/failures
-- Why most of an explanation's items failed, where some did.
-- column: latent      INTEGER
-- column: explanation VARCHAR
-- column: status      VARCHAR
-- grain: latent, explanation
SELECT latent, explanation, status
FROM items
WHERE has_failed
GROUP BY latent, explanation, status
QUALIFY row_number() OVER (
    PARTITION BY latent, explanation ORDER BY count(*) DESC, status
) = 1
ORDER BY latent, explanation
