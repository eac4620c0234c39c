"""One link of the chain."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bisieve import storage
from bisieve.errors import TrainingError

Kind = Literal["shards", "index", "run", "checkpoint", "evaluation", "pointer"]


@dataclass(frozen=True)
class Link:
    """A link, by what its own files say."""

    kind: Kind
    url: str
    name: str  # its fingerprint, the name of the run, the step of a checkpoint
    facts: dict[str, Any] = field(default_factory=dict)
    broken: str | None = None  # why what lies at the URL is not what the next link was made of


def as_json(chain: Sequence[Link]) -> str:
    """``[{kind, url, name, facts, broken}]``, the shards first."""
    return json.dumps([asdict(link) for link in chain], indent=1, ensure_ascii=False)


def as_text(chain: Sequence[Link]) -> str:
    """A line each, the shards first."""
    return "\n".join(map(_line, chain))


def _line(link: Link) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in link.facts.items())
    broken = f"; BROKEN: {link.broken}" if link.broken else ""
    return f"{link.kind:<11}{link.name:<18} {link.url}{f' ({facts})' if facts else ''}{broken}"


def read_json(url: str) -> dict[str, Any]:
    """The JSON object at ``url``; `TrainingError` where it is none."""
    try:
        found = json.loads(storage.read_bytes(url))
    except ValueError as error:
        raise TrainingError(f"JSON at {url}", "a file that is cut off or none", "check the URL") from error
    if not isinstance(found, dict):
        raise TrainingError(f"a JSON object at {url}", type(found).__name__, "check the URL")
    return found
