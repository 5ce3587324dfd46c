"""Charts of a report as inline SVG, which follows the page: its width, dark mode, print.

Written by hand because a chart of a plotting library brings its own colours and size of text.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clustering_common.report_html import number, score, text

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 8, 36
SHARES = (0.0, 1.0)  # range of scores and shares
MAX_LEGEND = 12
MAP_SIZE, MAP_MARGIN = 400, 12
MAX_POINTS = 400  # of a curve
MAX_TICKS, LOG_RANGE = 5, 30.0
# Distinct for most eyes, and readable on white and on black alike.
COLOURS = (
    "#3b82c4", "#e07b28", "#3a9d5d", "#d4524e", "#9168c0", "#a0705c", "#d56fb3", "#7d8794",
    "#a9a22c", "#22a7b8",
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """A curve.

    Attributes
    ----------
    name : str
    x, y : ndarray of shape (n_points,)
        Where y is NaN the curve has a gap.
    colour : str, default=''
        A CSS colour; by default, the next one.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    colour: str = ""


class Scale:
    """Where numbers lie along a side of a chart.

    Parameters
    ----------
    low, high : float
        Numbers at its ends.
    start, stop : float
        Places of its ends.
    is_log : bool, default=False
    """

    def __init__(self, low: float, high: float, start: float, stop: float, is_log: bool = False):
        if low == high:
            space = abs(low) / 2 or 0.5
            low, high = (low / 2, high * 2) if is_log else (low - space, high + space)
        self.low, self.high, self.start, self.stop, self.is_log = low, high, start, stop, is_log

    def __call__(self, values: np.ndarray | float) -> np.ndarray:
        """Return the places of numbers."""
        low, high, at = self.low, self.high, np.asarray(values, float)
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), np.log10(at)
        return self.start + (at - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[float]:
        """Return round numbers between the ends, at most some five."""
        if self.is_log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1, 3), (1,)):
                found = [m * 10.0**k for k in decades for m in factors]
                found = [value for value in found if self.low <= value <= self.high]
                if len(found) <= MAX_TICKS:
                    return found
            return found[:: math.ceil(len(found) / MAX_TICKS)]
        step = _step((self.high - self.low) / MAX_TICKS)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 12) for k in range(first, last + 1)]


def _step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, ... and their tenths that is large enough."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= least * (1 - 1e-9))


def colour_of(position: int, n_colours: int) -> str:
    """Return the colour of one of so many groups."""
    if n_colours <= len(COLOURS):
        return COLOURS[position]
    # Neighbours far apart in hue, and three kinds of lightness.
    hue, light = (position * 137.508) % 360, (46, 58, 68)[position % 3]
    return f"hsl({hue:.0f} 60% {light}%)"


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_range: tuple[float, float] | None = None,
    legend: bool = True,
) -> str:
    """Return curves over a common axis as a figure, '' where there is no finite point.

    The vertical axis is logarithmic where all values are positive and span more than a factor 30.

    Parameters
    ----------
    title, x_label : str
    series : sequence of Series
    y_range : tuple of float, optional
        What the vertical axis, linear then, shows at least; `SHARES` for scores and shares.
    legend : bool, default=True
        Whether names and last values stand below.
    """
    series = [_thinned(one) for one in map(_placed, series) if np.isfinite(one.y).any()]
    if not series:
        return ""
    y = np.concatenate([one.y[np.isfinite(one.y)] for one in series])
    x = np.concatenate([one.x for one in series])
    is_log = y_range is None and y.min() > 0 and y.max() / y.min() > LOG_RANGE
    low, high = (
        (min(y.min(), y_range[0]), max(y.max(), y_range[1])) if y_range else _room(y, is_log)
    )
    across = Scale(x.min(), x.max(), LEFT, WIDTH - RIGHT)
    up = Scale(low, high, HEIGHT - BOTTOM, TOP, is_log)
    coloured = [(one, one.colour or colour_of(i, len(series))) for i, one in enumerate(series)]
    curves = "\n".join(_curve(one, colour, across, up) for one, colour in coloured)
    words = text(f"{title} over {x_label}")
    kind = ' <span class="soft">logarithmic</span>' if is_log else ""
    return (
        f"<figure><figcaption>{text(title)}{kind}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">'
        f"{_axes(across, up, x_label)}\n{curves}</svg>"
        f"{_legend(coloured, y_range == SHARES) if legend else ''}</figure>"
    )


def _room(y: np.ndarray, is_log: bool) -> tuple[float, float]:
    """Return the range of an axis that shows ``y`` with some room, from 0 where that is near."""
    low, high = float(y.min()), float(y.max())
    if is_log:
        return low / 1.15, high * 1.15
    if 0 <= low < high / 2:
        return 0.0, high * 1.05
    room = 0.06 * (high - low)
    return low - room, high + room


def _placed(one: Series) -> Series:
    """Return the points of a curve that have a place on the horizontal axis."""
    has_place = np.isfinite(one.x)
    return Series(one.name, one.x[has_place], one.y[has_place], one.colour)


def _thinned(one: Series) -> Series:
    """Return a curve of no more points than a chart can show; the last one stays."""
    if len(one.x) <= MAX_POINTS:
        return one
    kept = np.unique(np.linspace(0, len(one.x) - 1, MAX_POINTS).round().astype(int))
    return Series(one.name, one.x[kept], one.y[kept], one.colour)


def _curve(one: Series, colour: str, across: Scale, up: Scale) -> str:
    """Return the path of one curve, with dots where there are few points."""
    steps, pen_is_down = [], False
    finite = np.isfinite(one.y)
    places = zip(across(one.x), up(np.where(finite, one.y, up.low)), finite, strict=True)
    dots = []
    for x, y, is_there in places:
        if is_there:
            steps.append(f"{'L' if pen_is_down else 'M'}{x:.1f} {y:.1f}")
            dots.append(f"M{x:.1f} {y:.1f}h0")
        pen_is_down = bool(is_there)
    path = f'<path class="curve" stroke="{colour}" d="{"".join(steps)}"><title>{text(one.name)}'
    path += "</title></path>"
    if len(dots) <= 15:
        path += f'<path class="points" stroke="{colour}" stroke-width="5" d="{"".join(dots)}"/>'
    return path


def _axes(across: Scale, up: Scale, x_label: str) -> str:
    """Return the grid, the ticks and their numbers."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in up.ticks():
        y = float(up(value))
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick(value)}</text>')
    for value in across.ticks():
        x = float(across(value))
        anchor = "end" if x > right - 14 else "middle"
        x_text = min(x, right + 4) if anchor == "end" else x
        parts.append(f'<path class="axis" d="M{x:.1f} {bottom}v4"/>')
        parts.append(
            f'<text x="{x_text:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{tick(value)}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {bottom}H{right}"/>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{text(x_label)}</text>')
    return "".join(parts)


def tick(value: float) -> str:
    """Return a number of an axis in few characters.

    Examples
    --------
    >>> tick(20000), tick(0.25), tick(2e-05), tick(1500000)
    ('20k', '0.25', '2e-5', '1.5M')
    """
    if 0 < abs(value) < 1e-3:
        factor, power = f"{value:.2e}".split("e")
        return f"{float(factor):g}e{int(power)}"
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1000 * size and abs(value) >= 10_000:
            return f"{value / size:g}{letter}"
    return f"{value:,g}"


def _legend(coloured: Sequence[tuple[Series, str]], are_shares: bool) -> str:
    if len(coloured) > MAX_LEGEND:
        coloured = [coloured[0], coloured[-1]]
    items = []
    for one, colour in coloured:
        value = float(one.y[np.isfinite(one.y)][-1])
        last = score(value) if are_shares else number(value)
        items.append(f"<li>{swatch(colour)}{text(one.name)} <b>{text(last)}</b></li>")
    return f'<ul class="legend">{"".join(items)}</ul>'


def swatch(colour: str) -> str:
    """Return a little square of a colour, for a legend."""
    return f'<i class="swatch" style="background:{colour}"></i>'


def map_chart(title: str, places: np.ndarray, groups: np.ndarray, names: Sequence[str]) -> str:
    """Return points in the plane, each group in its colour with its name at its median.

    Parameters
    ----------
    title : str
    places : ndarray of shape (n_points, 2)
        Both directions are drawn to one scale.
    groups : int ndarray of shape (n_points,)
        Positions among the names.
    names : sequence of str
    """
    places = places.astype(np.float64)
    middle = (places.max(axis=0) + places.min(axis=0)) / 2
    extent = float((places.max(axis=0) - places.min(axis=0)).max()) or 1.0
    # No higher than it must be.
    height = max(140.0, float(np.ptp(places[:, 1])) / extent * (MAP_SIZE - 2 * MAP_MARGIN) + 30)
    height = min(height, float(MAP_SIZE))
    at = (places - middle) * [1, -1] / extent * (MAP_SIZE - 2 * MAP_MARGIN - 6)
    at += [MAP_SIZE / 2, height / 2]
    paths, words = [], []
    for group, name in enumerate(names):
        own = at[groups == group]
        if not len(own):
            continue
        path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in own)
        colour = colour_of(group, len(names))
        paths.append(
            f'<path class="points map" stroke="{colour}" d="{path}"><title>{text(name)}</title>'
            "</path>"
        )
        x, y = np.median(own, axis=0)
        words.append(f'<text class="name" x="{x:.1f}" y="{y + 5:.1f}">{text(name, 14)}</text>')
    return (
        f"<figure><figcaption>{text(title)}</figcaption>"
        f'<svg viewBox="0 0 {MAP_SIZE} {height:.0f}" role="img" aria-label="{text(title)}">'
        f"{''.join(paths)}{''.join(words)}</svg></figure>"
    )
