"""What sampling must give, worked out token by token in plain Python from a planted lake."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tests.planted import Planted, spans

FULL = 2**64 - 1


def mix(seed, key):
    x = ((key + 2**63 + seed * 2177342782468422677) & FULL) * 4564476756301768121 & FULL
    return ((x ^ (x >> 32)) * 1499779743744070123 & FULL) >> 32


@dataclass(frozen=True)
class Tile:
    number: int
    tile: int
    length: int
    document: int
    role: str
    first: int
    stop: int

    @property
    def span(self):
        return range(self.tile, self.tile + self.length)


def tiles(planted: Planted, config, n_sequences=None):
    found = []
    context = planted.tokens.shape[1]
    for s, row in enumerate(planted.documents[:n_sequences]):
        cut = spans(row)
        stops = [c["start"] for c in cut[1:]] + [context]
        for c, stop in zip(cut, stops, strict=True):
            if c["document"] is None:
                continue
            first, last = s * context + c["start"], s * context + stop
            share = mix(config.seed, c["document"]) / 2**32
            role = "explain" if share < config.explain_share else "score"
            for tile in range(first, last, config.window_tokens):
                length = min(config.window_tokens, last - tile)
                found.append(Tile(len(found), tile, length, c["document"], role, first, last))
    return found


def windows(planted, tile_list, latent):
    """Return tile to (peak, peak token)."""
    found = {}
    for t in tile_list:
        values = [(float(planted.dense[i, latent]), -i) for i in t.span]
        peak, token = max(values)
        if any(v for v, _ in values):
            found[t] = (peak, -token)
    return found


def quantiles(active, n_quantiles):
    """Return tile to quantile: equal counts, the first groups one larger."""
    ranked = sorted(active, key=lambda t: (-active[t][0], active[t][1]))
    size, extra = divmod(len(ranked), n_quantiles)
    sizes = [size + (q < extra) for q in range(n_quantiles)]
    groups = [q + 1 for q, n in enumerate(sizes) for _ in range(n)]
    return dict(zip(ranked, groups, strict=True))


def shown(t, token, config, low=None, high=None):
    low, high = t.first if low is None else low, t.stop if high is None else high
    length = min(config.window_tokens, t.stop - t.first)
    if config.placement == "aligned":
        return t.tile, t.length
    at = min(int(config.peak_at * config.window_tokens), config.window_tokens - 1)
    return max(low, min(token - at, high - length)), length


def without_overlap(ordered, n, redo=None):
    """Take n of (order, start, length, item); overlaps of earlier ones last, equals never."""
    free, late, seen = [], [], set()
    for place, start, length, item in ordered:
        if start in seen:
            continue
        seen.add(start)
        earlier = [o for o in ordered if o[0] < place]
        met = any(s < start + length and start < s + n_ for _, s, n_, _ in earlier)
        (late if met else free).append((place, start, length, item))
    return (free, late) if redo else (free + late)[:n]


def positives(tile_list, active, latent, role, n, config, turns):
    """Return the drawn (start, length, quantile, population, tile), in the order of the draw."""
    cells = defaultdict(list)
    for t, q in quantiles(active, config.n_quantiles).items():
        if t.role == role:
            cells[q].append(t)
    key = mix(config.seed, latent)
    for cell in cells.values():
        cell.sort(key=lambda t: (mix(key, t.tile), t.number))
    rounds = 1
    while rounds < n and sum(min(len(c), rounds) for c in cells.values()) < n:
        rounds += 1
    ordered = []
    for q, cell in cells.items():
        for i, t in enumerate(cell[: 2 * rounds + 2]):
            start, length = shown(t, active[t][1], config)
            ordered.append(((i, turns[q - 1]), start, length, (q, len(cell), t)))
    ordered.sort(key=lambda o: o[0])
    taken = []
    for is_late, group in enumerate(without_overlap(ordered, n, redo=True)):
        count = defaultdict(int)
        for _, start, length, (q, population, t) in group:
            if is_late:
                count[q] = count[q] or sum(1 for x in taken if x[1][2] == q)
            count[q] += 1
            taken.append(((is_late, count[q], turns[q - 1]), (start, length, q, population, t)))
    drawn = [item for _, item in sorted(taken, key=lambda x: x[0])][:n]
    stands_for = populations(cells, {q for _, _, q, _, _ in drawn})
    return [(start, length, q, stands_for[q], t) for start, length, q, _, t in drawn]


def populations(cells, drawn):
    """Return what each drawn quantile stands for: its windows and those of its undrawn fellows."""
    found = dict.fromkeys(drawn, 0)
    for q, cell in cells.items():
        found[min(drawn, key=lambda d: (abs(d - q), d))] += len(cell)
    return found


def negatives(planted, tile_list, active, latent, role, n, config):
    """Return the drawn (start, length, tile), in the order of the walk round the whole ring."""
    origin, seed = mix(mix(config.seed, -2), latent), mix(mix(config.seed, -3), latent)
    ring = sorted(
        (t for t in tile_list if t.role == role and t not in active),
        key=lambda t: ((mix(mix(config.seed, -1), t.tile) - origin) % 2**32, t.number),
    )
    ordered = []
    for place, t in enumerate(ring):
        fires = [i for i in range(t.first, t.stop) if planted.dense[i, latent]]
        low = max([t.first] + [i + 1 for i in fires if i < t.tile])
        high = min([t.stop] + [i for i in fires if i > t.tile])
        length = min(config.window_tokens, t.stop - t.first)
        if config.placement == "peak" and high - low < length:
            continue
        start, length = shown(t, t.tile + mix(seed, t.tile) % t.length, config, low, high)
        ordered.append((place, start, length, t))
    return [(s, n_, t) for _, s, n_, t in without_overlap(ordered, n)]
