"""What sampling must give, worked out token by token in plain Python from a planted lake."""

from __future__ import annotations

from collections import Counter, defaultdict
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
        values = [(float(planted.dense[i, latent]), -i) for i in t.span if planted.dense[i, latent]]
        if values:
            peak, token = max(values)
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


def without_overlap(ordered):
    """Part (order, start, length, item) in those that meet no earlier one, and the others.

    Of equal ones only the first is kept.
    """
    free, late, seen = [], [], set()
    for place, start, length, item in ordered:
        if start in seen:
            continue
        seen.add(start)
        earlier = [o for o in ordered if o[0] < place]
        met = any(s < start + length and start < s + n_ for _, s, n_, _ in earlier)
        (late if met else free).append((place, start, length, item))
    return free, late


def cells(planted, active, latent, role, n, draw, config):
    """Return the windows that come first, and lists of windows that take turns, each in order."""
    mine = [t for t in active if t.role == role]
    key = mix(config.seed, latent)
    chance = {t: (mix(key, t.tile), t.number) for t in mine}
    strongest = sorted(mine, key=lambda t: (-active[t][0], t.number))
    if draw == "top":
        return strongest, {}
    if draw == "random":
        return [], {1: sorted(mine, key=chance.get)}
    if draw == "importance":
        size = priorities(planted, mine, chance, latent)
        return [], {1: sorted(mine, key=lambda t: (-size[t], t.number))}
    lead = strongest[: int(config.mix_top * n)] if draw == "mix" else []
    rest = defaultdict(list)
    for t, q in quantiles(active, config.n_quantiles).items():
        if t.role == role and t not in lead:
            rest[q].append(t)
    return lead, {q: sorted(rest[q], key=chance.get) for q in rest}


def mass(planted, t, latent):
    return abs(planted.dense[list(t.span), latent].astype(float)).sum()


def priorities(planted, mine, chance, latent):
    return {t: mass(planted, t, latent) * 2**32 / (chance[t][0] + 1) for t in mine}


def positives(planted, active, latent, role, n, draw, config, turns):
    """Return the drawn (start, length, quantile, population, weight, tile), in their order."""
    lead, rest = cells(planted, active, latent, role, n, draw, config)
    of = quantiles(active, config.n_quantiles)
    placed = [((0, i, 0), 0, t) for i, t in enumerate(lead)]
    for c, cell in rest.items():
        placed += [((1, i, turns[c - 1]), c, t) for i, t in enumerate(cell)]
    ordered = sorted((p, *shown(t, active[t][1], config), (c, t)) for p, c, t in placed)
    taken, count = [], defaultdict(int)
    for is_late, group in enumerate(without_overlap(ordered)):
        for (is_rest, _, turn), start, length, (c, t) in group:
            taken.append(((is_late, is_rest, count[c], turn), start, length, c, t))
            count[c] += 1
    drawn = sorted(taken)[:n]
    by_quantile = defaultdict(list)
    for t in active:
        if t.role == role:
            by_quantile[of[t]].append(t)
    stands_for = populations(by_quantile, {of[t] for *_, t in drawn})
    weight = weights(planted, lead, rest, drawn, latent, n, draw, config)
    return [(start, n_, of[t], stands_for[of[t]], weight(c, t), t) for _, start, n_, c, t in drawn]


def weights(planted, lead, rest, drawn, latent, n, draw, config):
    """Return what gives a drawn window's weight by its cell and tile, None if it has none."""
    if draw == "importance":
        chance = {t: (mix(mix(config.seed, latent), t.tile), 0) for t in rest.get(1, [])}
        size = sorted(priorities(planted, chance, chance, latent).values(), reverse=True)
        limit = size[n] if n < len(size) else 0
        return lambda c, t: max(1, limit / mass(planted, t, latent))
    n_of = Counter(c for *_, c, _ in drawn)
    n_lead = min(len(lead), n)
    has_chance = len(lead) <= n and len(rest) <= n - n_lead
    if not has_chance or (lead and not n_of[0]) or (rest and not n_of.keys() - {0}):
        return lambda c, t: None
    stands_for = {0: len(lead)} | populations(rest, n_of.keys() - {0})
    return lambda c, t: stands_for[c] / n_of[c]


def populations(cells, drawn):
    """Return what each drawn quantile stands for: its windows and those of its undrawn fellows."""
    found = dict.fromkeys(drawn, 0)
    for q, cell in cells.items() if drawn else ():
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
    free, late = without_overlap(ordered)
    return [(s, n_, t) for _, s, n_, t in (free + late)[:n]]
