"""The bytes of an index are the same under every Python that the package supports."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # environments of other Pythons

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("engine_free.py")
PACKAGES = ["numpy", "pyarrow", "fsspec", "msgspec", "xxhash"]  # what setup.py says the library needs
SUPPORTED = ["3.11", "3.12", "3.13"]
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
EXPECTED = "420290e9cf1eeca95669c39aaaa6555eb4be8c982643950970b15781e866194e"  # changes only with the format


def interpreter(version: str) -> str | None:
    """A Python of this version that can make environments: the running one, on PATH or among pyenv's."""
    if version == RUNNING:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
    for candidate in filter(None, candidates):
        asked = [candidate, "-c", "import venv, ensurepip"]
        if subprocess.run(asked, capture_output=True, check=False).returncode == 0:
            return str(candidate)
    return None


def to_show() -> list[str]:
    """The versions that ``BISIEVE_PYTHONS`` names, else those found here; the running one is among them."""
    named = os.environ.get("BISIEVE_PYTHONS", "").split()
    return sorted({RUNNING, *(named or filter(interpreter, SUPPORTED))})


def equipped(version: str) -> Path:
    """A Python of this version with what the library needs; it stays in ``.venv`` for the next time."""
    if (found := interpreter(version)) is None:
        pytest.fail(
            f"expected Python {version} with venv and ensurepip, on PATH or among pyenv's, since"
            f" BISIEVE_PYTHONS names it; found none; `pyenv install {version}` installs it"
        )
    if version == RUNNING:
        return Path(found)
    ready = ROOT / ".venv" / "pythons" / version
    if not (ready / "ready").exists():
        subprocess.run([found, "-m", "venv", "--clear", "--without-pip", ready], check=True)
        pip = [sys.executable, "-m", "pip", "--python", ready / "bin/python", "install", "--quiet"]
        pip += ["--no-compile", "--constraint", ROOT / "constraints.txt", *PACKAGES]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"expected {found} to take what the library needs; pip said:\n{done.stderr}")
        (ready / "ready").touch()
    return ready / "bin" / "python"


@pytest.mark.parametrize("version", to_show())
def test_the_bytes_of_an_index_are_those_of_every_python(version: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "lib"), str(ROOT / "tests")])}
    done = subprocess.run(
        [equipped(version), SCRIPT],
        env=environment,
        cwd=ROOT / "tests",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == EXPECTED


def test_a_python_that_must_be_shown_and_is_missing_fails_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BISIEVE_PYTHONS", "3.99")
    assert to_show() == [RUNNING, "3.99"]
    with pytest.raises(pytest.fail.Exception, match=r"3\.99 with venv and ensurepip.*pyenv install 3\.99"):
        equipped("3.99")
