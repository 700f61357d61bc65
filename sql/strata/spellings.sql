-- name: strata/spellings
-- What `spelled` holds of each token id, role and slot of the ring.
-- column: token_id INTEGER
-- column: role     VARCHAR
-- column: slot     BIGINT
-- column: id       BIGINT   the first
-- column: n        BIGINT
-- grain: token_id, role, slot
CREATE OR REPLACE TEMP TABLE spellings AS
SELECT token_id, role, slot, min(id) AS id, count(*) AS n
FROM spelled
GROUP BY token_id, role, slot
