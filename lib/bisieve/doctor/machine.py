"""Check this machine: Python, installed packages against the tested versions, free disk."""

import os
import platform
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib import metadata, resources

from packaging.requirements import Requirement

from bisieve._text import pluralize
from bisieve.doctor.checks import Check, DoctorTargets, State, attempted
from bisieve.local.processes import temporary_folder

OLDEST_PYTHON = (3, 11)
TESTED_PYTHONS = ((3, 11), (3, 12), (3, 13))
LEAST_DISK = 10e9  # free bytes in the temporary folder: for shuffles, and checkpoints until they are uploaded
FULL_DISK = 100e6  # free bytes; with less no run starts: Ray and Spark write more than that at once
_SUMS = ("bisieve[all]", "bisieve[dev]")  # extras that only combine others
# Packages of an extra that also come with MLflow, Ray and others.
_WITH_OTHERS = {"starlette", "uvicorn", "prometheus-client", "requests"}
_TESTED = "tested_versions.txt"  # constraints.txt of the repository


def examine(targets: DoctorTargets) -> Iterator[Check]:
    """Yield the checks of Python, of the packages of each extra, and of the disk."""
    yield python(sys.version_info[:2])
    yield from packages(metadata.requires("bisieve") or [], installed_versions(), tested_versions())
    yield attempted("disk", lambda: disk(temporary_folder()))


def python(found: tuple[int, ...]) -> Check:
    """Check the version of Python, given as (major, minor): failed if too old, a warning if not tested."""
    version = platform.python_version()
    if found < OLDEST_PYTHON:
        return Check("python", "failed", version, "install Python 3.11 or newer")
    if found not in TESTED_PYTHONS:
        tested = ", ".join(f"{major}.{minor}" for major, minor in TESTED_PYTHONS)
        return Check("python", "warning", version, f"tested with {tested}")
    return Check("python", "ok", version)


def tested_versions() -> dict[str, str]:
    """Return the version of each package that all tests ran with, by canonical name."""
    lines = resources.files("bisieve").joinpath(_TESTED).read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {_canonical(name): _public(version) for name, version in pairs}


def installed_versions() -> dict[str, str]:
    """Return the version of each installed package, by canonical name."""
    return {_canonical(one.name): _public(one.version) for one in metadata.distributions() if one.name}


def _public(version: str) -> str:
    """Remove the label of the build, such as ``+cpu``."""
    return version.strip().partition("+")[0]


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def packages(requires: list[str], installed: Mapping[str, str], tested: Mapping[str, str]) -> Iterator[Check]:
    """Yield a check of the packages of ``bisieve`` itself and of each extra.

    An extra counts as wanted on this machine if one of its packages that nothing else brings is
    installed, or if all of its packages are. The check of a wanted extra fails if a package is missing or has
    a version that the extra does not allow, and warns if a version is not the tested one. Any other extra is
    ok: "not installed on this machine".

    Args:
        requires: The requirements of ``bisieve`` with their markers, as in its metadata.
        installed: Installed versions, by canonical name.
        tested: Tested versions, by canonical name.
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
        own = [
            there for package, there in found.items() if brought[package] == 1 and package not in _WITH_OTHERS
        ]
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


def disk(folder: str) -> Check:
    """Check the free space of a folder: failed if it is full or not writable, a warning below 10 GB."""
    free = shutil.disk_usage(folder).free
    said = f"{free / 1e9:.1f} GB free in {folder}, {LEAST_DISK / 1e9:.0f} GB needed"
    hint = f"free {LEAST_DISK / 1e9:.0f} GB there or set TMPDIR"
    if free < FULL_DISK or not os.access(folder, os.W_OK):
        return Check("disk", "failed", said, hint)
    return Check("disk", "warning" if free < LEAST_DISK else "ok", said, hint if free < LEAST_DISK else "")
