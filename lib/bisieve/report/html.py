"""Render a `Page` as one HTML file that needs no network: style, scripts, data and images are inside.

Text is escaped by the template.  As a second line of defence the page has a content security policy: only the
scripts that are put in here may run, by their hashes, and nothing may be loaded.
"""

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bisieve._version import __version__
from bisieve.io.storage import write_bytes
from bisieve.io.urls import canonical
from bisieve.report.page import Cell, Chart, Form, Page

_BUNDLES = (
    "vega.min.js",
    "vega-lite.min.js",
    "vega-embed.min.js",
)  # in the order in which they need each other
_SOURCE_MAP = "//# sourceMappingURL="  # names a file that is not there


def write_page(page: Page, url: str) -> None:
    """Write ``page`` as an HTML file at ``url``.

    Raises:
        StorageError: The file cannot be written.
    """
    write_bytes(canonical(url), render(page).encode())


def render(page: Page) -> str:
    """Return ``page`` as the text of one HTML file."""
    scripts = [Markup(text) for text in _scripts()]
    return _environment().get_template("page.html.j2").render(
        page=page,
        scripts=scripts,
        style=Markup(_text("templates", "page.css")),
        policy=_policy(scripts),
        numbers=plain(page.numbers),
        version=__version__,
    )  # fmt: skip


def plain(value: Any) -> Any:
    """Return ``value`` made of JSON types alone: numpy's become Python's, NaN and infinities None."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(each) for each in value]
    return value


def _cell(value: Cell, form: Form) -> str:
    """Return a cell of a table as text."""
    if plain(value) is None:
        return "–"
    if form in ("text", "figure") or isinstance(value, str):
        return str(value)
    return {"count": f"{value:,.0f}", "number": f"{value:.4f}", "percent": f"{value:.1%}"}[form]


def _sort_key(value: Cell) -> Cell:
    """Return what a cell is sorted by; "", which is sorted below all numbers, where there is no number."""
    return "" if plain(value) is None else value


def _json(value: Any) -> Markup:
    """Return ``value`` as JSON that is safe inside a script element."""
    text = json.dumps(plain(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _spec(chart: Chart) -> Markup:
    """Return the specification of a chart, as wide as its place and named for screen readers."""
    frame = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return _json({**frame, "description": chart.title, **chart.spec})


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("bisieve.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "cell": _cell,
        "json": _json,
        "sort_key": _sort_key,
        "spec": _spec,
        "kind": lambda block: type(block).__name__,
    }
    return environment


@cache
def _scripts() -> tuple[str, ...]:
    bundles = [_text("vendor", name).partition(_SOURCE_MAP)[0] for name in _BUNDLES]
    return (*bundles, _text("templates", "page.js"))


def _text(folder: str, name: str) -> str:
    return (files("bisieve.report") / folder / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
