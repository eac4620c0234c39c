"""The bytes of an index are the same under every Python that the package supports."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("engine_free.py")
PACKAGES = ["numpy", "pyarrow", "fsspec", "msgspec", "xxhash"]  # what setup.py says the library needs
EXPECTED = "8066d7e78f7a586aecb16539c020f907adb21ef4ca1a7b7aafef6f88436f7024"  # changes only with the format


@pytest.fixture(params=["3.11", "3.12", "3.13"])
def python(request: pytest.FixtureRequest) -> Path:
    """A Python of this version with what the library needs; it stays in ``.venv`` for the next time."""
    version: str = request.param
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.executable)
    ready = ROOT / ".venv" / "pythons" / version
    if not (ready / "ready").exists():
        if (found := interpreter(version)) is None:
            pytest.skip(f"there is no Python {version} on this machine")
        subprocess.run([found, "-m", "venv", "--clear", ready], check=True)
        pip = [ready / "bin/pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
        if subprocess.run([*pip, *PACKAGES], check=False).returncode:
            pytest.skip(f"what the library needs cannot be installed for Python {version}")
        (ready / "ready").touch()
    return ready / "bin" / "python"


def interpreter(version: str) -> str | None:
    """A Python of this version, on PATH or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
    for candidate in filter(None, candidates):
        if (
            subprocess.run(
                [candidate, "-c", "import venv, ensurepip"], capture_output=True, check=False
            ).returncode
            == 0
        ):
            return str(candidate)
    return None


def test_the_bytes_of_an_index_are_those_of_every_python(python: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "lib"), str(ROOT / "tests")])}
    done = subprocess.run(
        [python, SCRIPT], env=environment, cwd=ROOT / "tests", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == EXPECTED
