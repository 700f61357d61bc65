-- name: macros/mix
-- A number in [0, 2^32) that is a pure function of (seed, key), equal on every DuckDB version and
-- machine because it is integer arithmetic only; DuckDB's own hash() changes between versions.
-- Multiply, fold the upper half onto the lower, multiply, keep the upper half, all modulo 2^64
-- (the shape of splitmix64's finaliser). Both arguments are integers of at most 64 bits; a seed
-- is not negative. For more parts nest it: mix(mix(seed, latent), token).
CREATE OR REPLACE TEMP MACRO mix(seed, key) AS (
    (xor(
        ((key::HUGEINT + 9223372036854775808 + seed::HUGEINT * 2177342782468422677) & 18446744073709551615)
            * 4564476756301768121 & 18446744073709551615,
        (((key::HUGEINT + 9223372036854775808 + seed::HUGEINT * 2177342782468422677) & 18446744073709551615)
            * 4564476756301768121 & 18446744073709551615) >> 32
    ) * 1499779743744070123 & 18446744073709551615) >> 32
)::BIGINT
