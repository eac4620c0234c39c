"""What the page asks for, as SQL: `Filters` of rollouts and their `order`; values are always parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from bisieve._text import did_you_mean
from bisieve.errors import UsageError

Where: TypeAlias = tuple[str, dict[str, Any]]  # a condition, and the values of its parameters

# Columns of `catalog.Catalog` that can be sorted by, and whose range can be given.
NUMBERS = ("rank", "bis", "mixture", "positive_fraction", "reliability", "num_steps", "num_positive")
SORTED_BY = ("source", "rollout_id", "question_id", *NUMBERS)
IN = {  # the selection, beside the one that the page began with
    "kept": "kept",
    "dropped": "NOT kept",
    "entered": "kept AND NOT was_kept",
    "left": "was_kept AND NOT kept",
    "marked": "rollout_id IN (FROM marked)",
}
KINDS = {
    "mixed": "num_positive BETWEEN 1 AND num_steps - 1",
    "all positive": "num_positive = num_steps",
    "all negative": "num_positive = 0",
}
_TEXT = (
    "(contains(rollout_id, $text) OR question_id IN "
    "(SELECT question_id FROM questions WHERE contains(lowered, lower($text))))"
)
_RANGES = {f"{name}_{end}": (name, sign) for name in NUMBERS for end, sign in (("min", ">="), ("max", "<="))}


@dataclass(frozen=True)
class Filters:
    """Conditions that all hold."""

    source: str = ""  # "": any
    selected: str = ""  # a key of `IN`
    kind: str = ""  # a key of `KINDS`
    text: str = ""  # part of the id, or of the question in any case
    question_id: str = ""
    ranges: tuple[tuple[str, float], ...] = ()  # names such as bis_min, with their values

    def where(self) -> Where:
        """Return the condition in SQL."""
        parts, values = ["true"], dict[str, Any]()
        for name in ("source", "question_id"):
            if value := getattr(self, name):
                parts.append(f"{name} = ${name}")
                values[name] = value
        if self.selected:
            parts.append(IN[self.selected])
        if self.kind:
            parts.append(KINDS[self.kind])
        if self.text:
            parts.append(_TEXT)
            values["text"] = self.text
        for name, value in self.ranges:
            column, sign = _RANGES[name]
            parts.append(f"{column} {sign} ${name}")
            values[name] = value
        return " AND ".join(f"({part})" for part in parts), values


def filters_of(asked: Mapping[str, Any]) -> Filters:
    """Return the filters of a request.

    Args:
        asked: Values by name, fields of `Filters` or ranges such as ``bis_min``; empty ones are left out.

    Raises:
        UsageError: A name is unknown, or a value has a wrong form.
    """
    given = {name: str(value) for name, value in asked.items() if str(value) != ""}
    known = [each.name for each in fields(Filters) if each.name != "ranges"]
    ranges = []
    for name in given.keys() - set(known):
        if name not in _RANGES:
            hint = did_you_mean(name, [*known, *_RANGES]) or "correct the name"
            raise UsageError("the name of a filter", name, hint)
        try:
            ranges.append((name, float(given[name])))
        except ValueError:
            raise UsageError(f"a number as {name}", given[name], "correct it") from None
    for name, choices in (("selected", IN), ("kind", KINDS)):
        if given.get(name, "") not in ("", *choices):
            raise UsageError(f"one of {', '.join(choices)} as {name}", given[name], "correct it")
    return Filters(**{name: given[name] for name in known if name in given}, ranges=tuple(sorted(ranges)))


def order(by: str, descending: bool) -> str:
    """Return the order in SQL; source and rank, which no two rollouts share, make it unique.

    Raises:
        UsageError: There is no such column.
    """
    if by not in SORTED_BY:
        hint = did_you_mean(by, SORTED_BY) or "correct the name"
        raise UsageError(f"one of {', '.join(SORTED_BY)} to sort by", by, hint)
    columns = [f"{by} {'DESC' if descending else 'ASC'}", *(c for c in ("source", "rank") if c != by)]
    return ", ".join(columns)
