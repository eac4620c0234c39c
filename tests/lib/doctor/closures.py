"""What pip would install for some extras of bisieve, told by the packages that are installed here."""

from collections.abc import Sequence
from functools import cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(extras: Sequence[str]) -> set[str]:
    """The canonical names of all packages that ``bisieve[extras]`` brings, directly or not."""
    open_, seen = [("bisieve", frozenset(extras))], set[tuple[str, frozenset[str]]]()
    while open_:
        package, wanted = one = open_.pop()
        if one not in seen:
            seen.add(one)
            open_ += [
                (canonicalize_name(need.name), frozenset(need.extras))
                for need in needs(package)
                if need.marker is None
                or any(need.marker.evaluate({"extra": extra}) for extra in ("", *wanted))
            ]
    return {package for package, _ in seen}


@cache
def needs(package: str) -> list[Requirement]:
    """What an installed package names as its needs, of all extras."""
    return [Requirement(text) for text in metadata.requires(package) or []]
