"""Tables of results as a notebook shows them."""

from html import escape
from typing import Any

import pyarrow as pa


def table_as_html(title: str, table: pa.Table) -> str:
    """Return a title and a table as HTML; all text is escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in table.column_names)
    rows = (
        "".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) for row in table.to_pylist()
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<p>{escape(title)}</p><table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
