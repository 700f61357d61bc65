-- name: corpus/sequences
-- The stored sequences of a corpus within a range, in order.
-- param: corpus VARCHAR
-- param: first  BIGINT
-- param: stop   BIGINT   not included
-- column: sequence    BIGINT
-- column: tokens      INTEGER[]
-- column: documents   STRUCT("document" BIGINT, "start" INTEGER)[]
-- column: next_row    BIGINT
-- column: next_offset INTEGER
-- grain: sequence
SELECT sequence, tokens, documents, next_row, next_offset
FROM sequences
WHERE corpus = $corpus AND sequence >= $first AND sequence < $stop
ORDER BY sequence
