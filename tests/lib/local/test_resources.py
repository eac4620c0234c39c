"""Limits of a container are kept to, not those of its machine."""

from pathlib import Path

import pytest

from bisieve.local import resources


@pytest.fixture
def limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with a container's limits, on a machine of 64 cores and 256 GB."""
    monkeypatch.setattr(resources, "_CGROUP", str(tmp_path))
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 2**26, "SC_PAGE_SIZE": 4000}.__getitem__)
    return tmp_path


@pytest.mark.parametrize(
    ("cpu", "memory", "cores", "workers"),
    [
        (None, None, 64, 64),
        ("max 100000", "max", 64, 64),
        ("150000 100000", "max", 2, 2),
        ("50000 100000", "max", 1, 1),
        ("max 100000", "2000000000", 64, 3),
        ("max 100000", "100000000", 64, 1),
    ],
)
def test_workers_follow_cores_and_memory(
    limits: Path, cpu: str | None, memory: str | None, cores: int, workers: int
) -> None:
    for name, text in {"cpu.max": cpu, "memory.max": memory}.items():
        if text is not None:
            (limits / name).write_text(f"{text}\n")
    assert (resources.usable_cores(), resources.usable_workers()) == (cores, workers)
