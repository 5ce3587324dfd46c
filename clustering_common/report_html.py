"""The parts of a report's page: HTML without scripts and without anything from the network."""

import base64
import html
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from PIL import Image

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
$style
</style>
</head>
<body>
<main>
<header>
<h1>$title</h1>
<p class="subtitle">$subtitle</p>
$links
</header>
$body
<footer>$footer</footer>
</main>
</body>
</html>
""")
BEYOND = 1e6  # no score is
MAX_TEXT, LONG = 300, 34  # characters of one value: at most, and where it takes a line


class Sections:
    """The sections of a page, each with a link at the top.

    Attributes
    ----------
    parts : list of str
        Their HTML, in order.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.links: list[tuple[str, str]] = []

    def add(self, title: str, body: str, note: str = "") -> None:
        """Add a section; one without a body is left out.

        Parameters
        ----------
        title, note : str
            Plain text.
        body : str
            HTML.
        """
        if not body:
            return
        name = f"s{len(self.links) + 1}"
        self.links.append((name, title))
        below = f'<p class="note">{text(note, None)}</p>' if note else ""
        heading = f'<section id="{name}">\n<h2>{text(title)}</h2>'
        self.parts.append(f"{heading}\n{below}\n{body}\n</section>")

    def page(self, title: str, subtitle: str, top: str, footer: str) -> str:
        """Return the whole page, with the HTML ``top`` above the sections."""
        items = "".join(f'<a href="#{name}">{text(words)}</a>' for name, words in self.links)
        return PAGE.substitute(
            title=text(title),
            subtitle=text(subtitle),
            style=resources.files("clustering_common").joinpath("report.css").read_text(),
            links=f"<nav>{items}</nav>",
            body="\n".join([top, *self.parts]),
            footer=text(footer),
        )


def text(value: Any, limit: int | None = MAX_TEXT) -> str:
    """Return a value as text that HTML shows as it is, cut where it is long.

    What no file can hold, half of a character of UTF-16, becomes a question mark.
    """
    words = shown(value).encode("utf-8", "replace").decode()
    if limit is not None and len(words) > limit:
        words = words[: limit - 1] + "…"
    return html.escape(words)


def shown(value: Any) -> str:
    """Return a value as people read it.

    Examples
    --------
    >>> shown(0.98765), shown(1e-05), shown(None), shown([500, 10]), shown(12345)
    ('0.9877', '1e-05', 'none', '500, 10', '12,345')
    """
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {shown(item)}" for key, item in value.items())
    return str(value)


def number(value: float) -> str:
    """Return a float in about four digits."""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3g}"


def score(value: Any) -> str:
    """Return ACC, NMI or ARI as a run's closing line has it, a dash where there is none."""
    if not isinstance(value, int | float) or not -BEYOND < value < BEYOND:  # NaN is not
        return "-"
    return f"{value:.4f}"


def duration(seconds: float) -> str:
    """Return a time as people say it.

    Examples
    --------
    >>> duration(7.4), duration(75), duration(7500)
    ('7 s', '1 min 15 s', '2 h 5 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plural(n: int, word: str) -> str:
    """Return a number with its noun, such as '1 sample' or '1,797 samples'."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in a box of its own to scroll; the cells are HTML, the columns text."""
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(content: str) -> str:
    return content if content.startswith("<td") else f"<td>{content}</td>"


def tiles(items: Iterable[tuple[str, str, str]]) -> str:
    """Return large figures, each with its name above and a few words below, all plain text."""
    parts = []
    for name, value, below in items:
        small = f"<small>{text(below)}</small>" if below else ""
        parts.append(f"<div><dt>{text(name)}</dt><dd>{text(value)}{small}</dd></div>")
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def warnings_box(lines: Sequence[str]) -> str:
    """Return the box on top of a page, '' where all is well."""
    if not lines:
        return ""
    items = "".join(f"<li>{text(line, None)}</li>" for line in lines)
    return f'<section class="warnings" role="alert"><h2>Warnings</h2><ul>{items}</ul></section>'


def settings(values: Mapping[str, Any]) -> str:
    """Return names and values in as many columns as fit."""
    items = []
    for name, value in values.items():
        kind = ' class="long"' if len(shown(value)) > LONG else ""
        items.append(f"<div{kind}><dt>{text(name)}</dt><dd>{text(value)}</dd></div>")
    return f'<dl class="settings">{"".join(items)}</dl>' if items else ""


def image(pixels: np.ndarray, name: str) -> str:
    """Return a uint8 array (height, width[, 3]) as an image that the page itself holds."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
    content = base64.b64encode(buffer.getvalue()).decode()
    words = text(name)
    return f'<img src="data:image/png;base64,{content}" alt="{words}" title="{words}">'
