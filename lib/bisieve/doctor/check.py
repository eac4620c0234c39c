"""One thing that was looked at, and what was found."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from bisieve.errors import BisieveError

State = Literal["ok", "warning", "failed"]


@dataclass(frozen=True)
class Check:
    """A line of the doctor's report; pickles, since some come from other machines."""

    name: str
    state: State
    found: str
    mend: str = ""  # what to do; of what is not ok


@dataclass(frozen=True)
class Patient:
    """What the doctor is to look at beside this machine."""

    inputs: Sequence[str] = ()  # URLs that are read
    outputs: Sequence[str] = ()  # URLs of folders that are read and written
    master: str | None = None  # of a Spark cluster


Examine = Callable[[Patient], Iterable[Check]]


def attempted(name: str, attempt: Callable[[], Check]) -> Check:
    """The check that ``attempt`` makes; its `BisieveError` is one that failed."""
    try:
        return attempt()
    except BisieveError as error:
        expected, found, mend = error.args
        return Check(name, "failed", f"expected {expected}; found {found}", mend)


def all_well(checks: Iterable[Check]) -> bool:
    """Whether none has failed."""
    return not any(check.state == "failed" for check in checks)


def told(checks: Iterable[Check]) -> Iterator[str]:
    """A line each, as it comes."""
    for check in checks:
        mend = f"; {check.mend}" if check.mend else ""
        yield f"{check.state:<8} {check.name:<18} {' '.join(f'{check.found}{mend}'.split())}"


def as_json(checks: Sequence[Check]) -> str:
    """``{"well": …, "checks": [{name, state, found, mend}]}``."""
    return json.dumps({"well": all_well(checks), "checks": [asdict(check) for check in checks]}, indent=1)
