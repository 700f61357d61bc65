-- name: stats/buckets
-- How many latents of each unit of a hookpoint have each status.
-- param: capture        VARCHAR
-- param: hookpoint      VARCHAR
-- param: bucket_latents INTEGER
-- column: bucket INTEGER
-- column: status VARCHAR
-- column: n      BIGINT
-- grain: bucket, status
SELECT latent // $bucket_latents AS bucket, status, count(*) AS n
FROM latents
WHERE capture = $capture AND hookpoint = $hookpoint
GROUP BY bucket, status
ORDER BY bucket, status
