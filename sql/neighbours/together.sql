-- name: neighbours/together
-- A table, still empty, for the latents that fire together at each token.
-- column: token   BIGINT
-- column: latents INTEGER[]
-- grain: token
CREATE OR REPLACE TEMP TABLE together (token BIGINT, latents INTEGER[])
