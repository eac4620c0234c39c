"""One thing that was looked at, and what was found."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from bisieve._redact import without_secrets
from bisieve.errors import BisieveError
from bisieve.io.errors import reason

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """A line of the doctor's report; pickles, since some come from other machines."""

    name: str
    state: State
    found: str
    hint: str = ""  # what to do; of what is not ok


@dataclass(frozen=True)
class Patient:
    """What the doctor is to look at beside this machine."""

    inputs: Sequence[str] = ()  # URLs that are read
    outputs: Sequence[str] = ()  # URLs of folders that are read and written
    master: str | None = None  # of a Spark cluster
    properties_file: str | None = None  # that spark-submit is given


Examine = Callable[[Patient], Iterable[Check]]


def attempted(name: str, attempt: Callable[[], Check]) -> Check:
    """The check that ``attempt`` makes; whatever it raises is one that failed."""
    try:
        return attempt()
    except Exception as error:
        return failed(name, error)


def failed(name: str, error: Exception) -> Check:
    """The check that ended with ``error``, `BisieveError` or any other."""
    if isinstance(error, BisieveError):
        expected, found, hint = error.args
        return Check(name, "failed", f"expected {expected}; found {found}", hint)
    said = without_secrets(f"{type(error).__name__}: {reason(error)}")
    return Check(name, "failed", said, "correct what this names, or install its package again")


def examined(name: str, load: Callable[[], Examine], patient: Patient) -> Iterator[Check]:
    """The checks of what ``load`` gives; where it, or looking, raises an error, a last one that failed."""
    try:
        yield from load()(patient)
    except Exception as error:
        yield failed(name, error)


def all_well(checks: Iterable[Check]) -> bool:
    """Whether none has failed."""
    return not any(check.state == "failed" for check in checks)


def told(checks: Iterable[Check]) -> Iterator[str]:
    """A line each, as it comes."""
    for check in checks:
        hint = f"; {check.hint}" if check.hint else ""
        yield f"{check.state:<8} {check.name:<18} {' '.join(f'{check.found}{hint}'.split())}"


def as_json(checks: Sequence[Check]) -> str:
    """``{"well": …, "checks": [{name, state, found, hint}]}``."""
    return json.dumps({"well": all_well(checks), "checks": [asdict(check) for check in checks]}, indent=1)
