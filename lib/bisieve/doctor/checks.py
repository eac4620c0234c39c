"""Checks: what one is, how errors become failed checks, how checks are printed.

Each entry point of the group ``bisieve.checks`` is a function `Examine`: it gets the `DoctorTargets`, which
say what to check, and yields one `Check` per line of the report.  To add a check, yield it from the function
that it belongs to, or write a new function and name it in ``setup.py``.
"""

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
    """A line of the doctor's report; it can be pickled, because some checks run on other machines."""

    name: str
    state: State
    found: str
    hint: str = ""  # what to do; empty if the state is ok


@dataclass(frozen=True)
class DoctorTargets:
    """What to check beside this machine."""

    inputs: Sequence[str] = ()  # URLs that a run will read
    outputs: Sequence[str] = ()  # URLs of folders that a run will read and write
    master: str | None = None  # URL of a Spark master; None: no cluster is checked
    properties_file: str | None = None  # Spark's properties, as for spark-submit --properties-file


Examine = Callable[[DoctorTargets], Iterable[Check]]


def attempted(name: str, attempt: Callable[[], Check]) -> Check:
    """Return the check that ``attempt`` returns; if it raises, a failed check called ``name``."""
    try:
        return attempt()
    except Exception as error:
        return failed(name, error)


def failed(name: str, error: Exception) -> Check:
    """Return a failed check for an exception; a `BisieveError` brings its own hint."""
    if isinstance(error, BisieveError):
        expected, found, hint = error.args
        return Check(name, "failed", f"expected {expected}; found {found}", hint)
    said = without_secrets(f"{type(error).__name__}: {reason(error)}")
    return Check(name, "failed", said, "fix the cause named here, or reinstall the package")


def examined(name: str, load: Callable[[], Examine], targets: DoctorTargets) -> Iterator[Check]:
    """Yield the checks of one `Examine` function; an exception becomes a last, failed check.

    Args:
        name: The name of that failed check.
        load: Returns the function; it may raise, for example where a package is missing.
        targets: What to check.
    """
    try:
        yield from load()(targets)
    except Exception as error:
        yield failed(name, error)


def all_well(checks: Iterable[Check]) -> bool:
    """Return whether no check has failed; warnings count as success."""
    return not any(check.state == "failed" for check in checks)


def cells(check: Check) -> tuple[str, str, str]:
    """Return the state, the name, and in one line what was found and what to do."""
    hint = f"; {check.hint}" if check.hint else ""
    return check.state, check.name, " ".join(f"{check.found}{hint}".split())


def as_json(checks: Sequence[Check]) -> str:
    """Return the checks as the JSON document ``{"well": …, "checks": [{name, state, found, hint}]}``."""
    return json.dumps({"well": all_well(checks), "checks": [asdict(check) for check in checks]}, indent=1)
