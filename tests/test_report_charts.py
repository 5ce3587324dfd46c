"""The charts of a report: places worked out by hand."""

import re

import numpy as np
import pytest

from clustering_common.report_charts import (
    BOTTOM,
    COLOURS,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    Series,
    colour_of,
    line_chart,
    map_chart,
    tick,
)


def places(chart, kind="curve"):
    path = re.search(rf'<path class="{kind}"[^>]* d="([^"]*)"', chart)[1]
    return [
        (float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)
    ]  # fmt: skip


def test_a_curve_goes_from_corner_to_corner():
    x, y = np.array([0.0, 10.0, 20.0]), np.array([0.0, 0.25, 1.0])
    chart = line_chart("Scores", [Series("ACC", x, y)], "step", (0, 1))
    bottom = HEIGHT - BOTTOM
    middle = (LEFT + WIDTH - RIGHT) / 2
    assert places(chart) == [
        (LEFT, bottom), (middle, bottom - (bottom - TOP) / 4), (WIDTH - RIGHT, TOP),
    ]  # fmt: skip
    assert ">0.2<" in chart and ">20<" in chart and "<b>1.0000</b>" in chart


def test_gaps_and_nothing():
    x = np.arange(4.0)
    chart = line_chart("Loss", [Series("loss", x, np.array([np.nan, 2, np.nan, 1]))], "step")
    path = re.search(r'class="curve"[^>]* d="([^"]*)"', chart)[1]
    assert path.count("M") == 2 and "L" not in path and "nan" not in chart
    assert line_chart("Loss", [Series("loss", x, np.full(4, np.nan))], "step") == ""
    assert line_chart("Loss", [], "step") == ""


def test_a_loss_over_decades_is_logarithmic():
    x = np.arange(3.0)
    chart = line_chart("Loss", [Series("loss", x, np.array([100.0, 10, 1]))], "step")
    assert "logarithmic</span>" in chart
    (_, first), (_, second), (_, third) = places(chart)
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert "logarithmic" not in line_chart("L", [Series("l", x, np.array([-1.0, 10, 99]))], "s")


def test_long_curves_keep_their_ends():
    x = np.arange(20_000.0)
    found = places(line_chart("Loss", [Series("loss", x, x)], "step"))
    assert len(found) == 400 and found[0][0] == LEFT and found[-1][0] == WIDTH - RIGHT


@pytest.mark.parametrize(
    ("low", "high", "is_log", "ticks"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.1, 1, False, [0, 0.5, 1]),
        (0, 560, False, [0, 200, 400]),
        (3, 3, False, [2, 3, 4]),
        (0.5, 50, True, [1, 3, 10, 30]),
        (1e-6, 1e6, True, [1e-6, 1e-3, 1, 1e3, 1e6]),
    ],
)
def test_ticks_are_round(low, high, is_log, ticks):
    np.testing.assert_allclose(Scale(low, high, 0, 1, is_log).ticks(), ticks, rtol=1e-9)


def test_numbers_of_an_axis_are_short():
    found = [tick(value) for value in (0, 0.0001, -2.5e-5, 0.0125, 9500, 12500, 2e6, 1e9)]
    assert found == ["0", "1e-4", "-2.5e-5", "0.0125", "9,500", "12.5k", "2M", "1e+09"]


def test_a_map_keeps_shapes_and_separates_groups():
    at = np.array([[0.0, 0], [2, 0], [2, 1], [0, 1]])
    chart = map_chart("PCA", at, np.array([0, 0, 1, 1]), ["a<", "b"])
    paths = [re.findall(r"M([\d.]+) ([\d.]+)h0", p) for p in re.findall(r' d="([^"]*)"', chart)]
    (a, b), (c, d) = [[tuple(map(float, point)) for point in path] for path in paths]
    assert a[1] == b[1] > c[1] == d[1]  # up is up
    assert b[0] - a[0] == pytest.approx(2 * (a[1] - d[1]), abs=0.3)
    assert "a&lt;" in chart and "a<" not in chart.replace("a&lt;", "")


def test_colours_are_distinct():
    assert [colour_of(k, 10) for k in range(10)] == list(COLOURS)
    assert len({colour_of(k, 60) for k in range(60)}) == 60


def test_places_on_a_scale_that_does_not_begin_at_zero():
    np.testing.assert_allclose(Scale(10, 30, 0, 100)([10, 15, 30]), [0, 25, 100])
    np.testing.assert_allclose(Scale(1, 100, 0, 10, is_log=True)([1, 10, 100]), [0, 5, 10])
