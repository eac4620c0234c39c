"""This machine's checks: each is ok, or says what to do."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from closures import closure

from bisieve.doctor import machine

IMAGES = Path(__file__).parents[3] / "infra/docker"
ONE_EXTRA = ("score", "train", "serve", "corpus", "s3")
REQUIRES = ["numpy>=1.26", 'pyspark<5,>=4.3; extra == "score"', 'pandas>=2.2; extra == "score"']
TESTED = {"numpy": "2.4.0", "pyspark": "4.3.0", "pandas": "2.3.3"}


def said(installed: dict[str, str]) -> dict[str, tuple[str, str]]:
    return {check.name: (check.state, check.found) for check in machine.packages(REQUIRES, installed, TESTED)}


def test_the_tested_versions_are_those_of_the_constraints() -> None:
    tested, installed = machine.tested_versions(), machine.installed_versions()
    assert {"pyspark", "ray", "torch", "huggingface-hub"} <= tested.keys()
    assert tested["torch"] == "2.13.0"  # without the "+cpu" of its build
    assert {name: installed[name] for name in ("pyspark", "ray", "torch")} == {
        name: tested[name] for name in ("pyspark", "ray", "torch")
    }


def test_an_extra_with_all_its_packages_as_tested_is_ok() -> None:
    assert said(TESTED)["bisieve[score]"] == ("ok", "2 packages as tested")


def test_an_extra_with_none_of_its_packages_is_not_wanted_here() -> None:
    assert said({"numpy": "2.4.0"})["bisieve[score]"] == ("ok", "not installed on this machine")


def test_an_extra_with_some_of_its_packages_has_failed() -> None:
    assert said({"numpy": "2.4.0", "pyspark": "4.3.0"})["bisieve[score]"] == ("failed", "no pandas")


def of_an_image(name: str) -> list[str]:
    """The extras that an image of ``infra/docker`` installs."""
    (extras,) = re.findall(r"'\.\[(.+)\]'", (IMAGES / f"{name}.Dockerfile").read_text())
    return extras.split(",")


@pytest.mark.parametrize(
    "extras", [of_an_image("score"), of_an_image("train"), *([extra] for extra in ONE_EXTRA)], ids=",".join
)
def test_what_pip_installs_for_some_extras_is_well_and_no_other_is_wanted(extras: list[str]) -> None:
    # What trains brings what makes pictures, too, and a client of the hub.
    beside = {"corpus", "hf"} if "train" in extras else set()
    brought = closure(extras)
    installed = {name: version for name, version in machine.installed_versions().items() if name in brought}
    requires = metadata.requires("bisieve") or []
    checks = list(machine.packages(requires, installed, machine.tested_versions()))
    assert {check.state for check in checks} == {"ok"}, checks
    wanted = {check.name for check in checks if check.found != "not installed on this machine"}
    assert wanted == {"bisieve", *(f"bisieve[{extra}]" for extra in {*extras, *beside})}


def test_an_image_that_lacks_one_of_its_packages_has_failed() -> None:
    installed = dict.fromkeys(closure(of_an_image("train")) - {"ray"}, "1")
    checks = {
        check.name: check for check in machine.packages(metadata.requires("bisieve") or [], installed, {})
    }
    assert checks["bisieve[train]"].state == "failed"
    assert checks["bisieve[train]"].found.startswith("no ray")
    assert checks["bisieve[score]"].found == "not installed on this machine"


def test_a_version_that_is_allowed_but_untested_is_a_warning() -> None:
    found = said(TESTED | {"pyspark": "4.4.0"})["bisieve[score]"]
    assert found == ("warning", "pyspark 4.4.0 (tested 4.3.0)")


def test_a_version_that_is_not_allowed_has_failed() -> None:
    state, found = said(TESTED | {"pyspark": "5.0.0"})["bisieve[score]"]
    assert state == "failed"
    assert "pyspark 5.0.0 (needs" in found


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10), "failed"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 99), "warning")]
)
def test_pythons_before_3_11_fail_and_later_ones_than_tested_warn(
    version: tuple[int, int], state: str
) -> None:
    assert machine.python(version).state == state


def test_a_disk_that_is_nearly_full_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.disk("/").state == "ok"
    monkeypatch.setattr("bisieve.doctor.machine.LEAST_DISK", 1e18)
    assert machine.disk("/").state == "warning"
    assert "TMPDIR" in machine.disk("/").hint


def test_a_full_folder_of_temporary_files_fails_and_says_what_is_free_and_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bisieve.doctor.machine.FULL_DISK", 1e18)
    check = machine.disk("/")
    assert check.state == "failed"
    assert re.fullmatch(r"[\d.]+ GB free in /, 10 GB needed", check.found)
