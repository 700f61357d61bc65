"""The page's colours are readable in light and dark."""

from __future__ import annotations

import re

import pytest

from lakeinterp.report.page import TEMPLATES

CSS = (TEMPLATES / "style.css").read_text(encoding="utf-8")


def variables(scheme):
    light, dark = (dict(re.findall(r"--([\w]+): ([^;]+);", part)) for part in parts())
    return light if scheme == "light" else {**light, **dark}


def parts():
    start = CSS.index("@media (prefers-color-scheme: dark)")
    return CSS[:start], CSS[start : CSS.index("* { box-sizing")]


def rgb(text):
    if text.startswith("#"):
        return [int(text[i : i + 2], 16) for i in (1, 3, 5)]
    return [int(part) for part in text.split()]


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in
              (part / 255 for part in colour)]  # fmt: skip
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ground", ["page", "raised"])
@pytest.mark.parametrize("ink", ["text", "muted", "accent", "bad", "good"])
def test_text_has_a_contrast_of_four_and_a_half(scheme, ground, ink):
    found = variables(scheme)
    assert contrast(rgb(found[ink]), rgb(found[ground])) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("level", range(1, 10))
def test_shaded_tokens_stay_readable(scheme, level):
    found = variables(scheme)
    alpha, page = float(found[f"a{level}"]), rgb(found["page"])
    shade = [alpha * h + (1 - alpha) * p for h, p in zip(rgb(found["heat"]), page, strict=True)]
    assert contrast(rgb(found["text"]), shade) >= 4.5


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_level_of_shading_differs_from_the_one_below(scheme):
    found = variables(scheme)
    alphas = [float(found[f"a{level}"]) for level in range(1, 10)]
    assert alphas == sorted(set(alphas))
