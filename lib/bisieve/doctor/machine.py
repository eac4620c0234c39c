"""This machine: Python, the packages against those that were tested together, disk."""

import os
import platform
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import metadata, resources

from packaging.requirements import Requirement

from bisieve._text import pluralize
from bisieve.doctor.checks import Check, Patient, State, attempted

OLDEST_PYTHON = (3, 11)
TESTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
LEAST_DISK = 10e9  # bytes below the folder of temporary files: shuffles, checkpoints on their way up
FULL_DISK = 100e6  # bytes below which nothing starts: Ray and Spark write more than that at once
_SUMS = ("bisieve[all]", "bisieve[dev]")  # of other extras
_TESTED = "tested_versions.txt"  # the repository's constraints.txt


def examine(patient: Patient) -> Iterator[Check]:
    """This machine's checks."""
    yield python(sys.version_info[:2])
    yield from packages(metadata.requires("bisieve") or [], installed_versions(), tested_versions())
    yield attempted("disk", lambda: disk(temporary_folder()))


def python(found: tuple[int, ...]) -> Check:
    """Of a Python ``found`` as (major, minor)."""
    version = platform.python_version()
    if found < OLDEST_PYTHON:
        return Check("python", "failed", version, "install Python 3.11 or newer")
    if found not in TESTED_PYTHONS:
        tested = ", ".join(f"{major}.{minor}" for major, minor in TESTED_PYTHONS)
        return Check("python", "warning", version, f"tested with {tested}")
    return Check("python", "ok", version)


def tested_versions() -> dict[str, str]:
    """The version of each package that all tests ran with, by canonical name."""
    lines = resources.files("bisieve").joinpath(_TESTED).read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {_canonical(name): _public(version) for name, version in pairs}


def installed_versions() -> dict[str, str]:
    """The version of each package that is installed, by canonical name."""
    return {_canonical(one.name): _public(one.version) for one in metadata.distributions() if one.name}


def _public(version: str) -> str:
    """Without what tells one build from another, as ``+cpu``."""
    return version.strip().partition("+")[0]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(requires: list[str], installed: Mapping[str, str], tested: Mapping[str, str]) -> Iterator[Check]:
    """A check for what each extra needs, ``bisieve`` itself first.

    An extra is wanted on this machine where a package is installed that it alone brings; what it then lacks
    has failed.  One that shares all its packages is wanted where all of them are there.
    """
    needs: dict[str, list[Requirement]] = {}
    for text in requires:
        requirement = Requirement(text)
        extra = re.search(r'extra == "([^"]+)"', str(requirement.marker or ""))
        needs.setdefault(f"bisieve[{extra[1]}]" if extra else "bisieve", []).append(requirement)
    needs = {name: wanted for name, wanted in needs.items() if name not in _SUMS}
    brought = Counter(_canonical(need.name) for wanted in needs.values() for need in wanted)
    for name, wanted in needs.items():
        found = {_canonical(need.name): _canonical(need.name) in installed for need in wanted}
        own = [there for package, there in found.items() if brought[package] == 1]
        if name == "bisieve" or any(own) or all(found.values()):
            yield _of_extra(name, wanted, installed, tested)
        else:
            yield Check(name, "ok", "not installed on this machine")


def _of_extra(
    name: str, wanted: list[Requirement], installed: Mapping[str, str], tested: Mapping[str, str]
) -> Check:
    found = {need.name: installed.get(_canonical(need.name)) for need in wanted}
    missing = [package for package, version in found.items() if version is None]
    refused = [
        f"{need.name} {found[need.name]} (needs {need.specifier})"
        for need in wanted
        if found[need.name] and not need.specifier.contains(str(found[need.name]), prereleases=True)
    ]
    others = [
        f"{package} {version} (tested {tested[_canonical(package)]})"
        for package, version in found.items()
        if version and tested.get(_canonical(package), version) != version
    ]
    if missing or refused:
        said = ", ".join([*(f"no {package}" for package in missing), *refused])
        return Check(name, "failed", said, f"pip install '{name}'")
    state: State = "warning" if others else "ok"
    said = ", ".join(others) or f"{pluralize(len(found), 'package')} as tested"
    return Check(name, state, said, "install the tested versions if something fails" if others else "")


def temporary_folder() -> str:
    """Return the folder that TMPDIR names, full or not: Python takes another one in silence."""
    return os.environ.get("TMPDIR") or tempfile.gettempdir()


def disk(folder: str) -> Check:
    """Of the folder of temporary files."""
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free in {folder}, {LEAST_DISK / 1e9:.0f} GB needed"
    hint = f"free {LEAST_DISK / 1e9:.0f} GB there or set TMPDIR"
    if free < FULL_DISK or not os.access(folder, os.W_OK):
        return Check("disk", "failed", said, hint)
    return Check("disk", "warning" if free < LEAST_DISK else "ok", said, hint if free < LEAST_DISK else "")
