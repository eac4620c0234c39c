"""Which engine does the work when nobody says so."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bisieve import engines
from bisieve.cli.main import main


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """Return the engine that is opened for a size, and what is said of it."""

    @contextmanager
    def opened(name: str) -> Iterator[str]:
        yield name

    monkeypatch.setattr(engines, "local_engine", lambda size, workers: opened("local"))
    monkeypatch.setattr("bisieve.spark.engine.spark_engine", lambda master, conf: opened("spark"))

    def choose(size: int, **options: Any) -> tuple[str, str]:
        said = []
        open_engine = engines.choose_engine(emit=lambda event, text="", **_: said.append(text), **options)
        with open_engine(size) as engine:
            return str(engine), "".join(said)

    return choose


@pytest.mark.parametrize(
    ("options", "engine"),
    [
        ({}, "local"),
        ({"master": "local[2]"}, "spark"),
        ({"conf": {"spark.ui.enabled": "true"}}, "spark"),
        ({"asked": "spark"}, "spark"),
        ({"asked": "local", "limit": 1}, "local"),
        ({"limit": 999}, "spark"),
        ({"limit": 1000}, "local"),
    ],
)
def test_the_engine_follows_the_options_and_the_size(
    chosen: Callable[..., Any], options: dict[str, Any], engine: str
) -> None:
    assert chosen(1000, **options)[0] == engine


def test_that_the_size_has_decided_is_said(chosen: Callable[..., Any]) -> None:
    assert chosen(3 * 10**12, limit=2 * 10**12) == (
        "spark", "3,000.0 GB to read exceed --local-limit 2,000.0 GB: using Spark",
    )  # fmt: skip
    assert chosen(3 * 10**12, master="local")[1] == ""


def test_under_spark_submit_it_is_spark(chosen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert chosen(1)[0] == "spark"
    assert chosen(1, asked="local")[0] == "local"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "local", "--master", "local"], "no --master and no --spark-conf"),
        (["--engine", "spark", "--workers", "2"], "--workers with the local engine alone"),
        (["--workers", "0"], "--workers from 1 on"),
        (["--local-limit", "-1"], "a --local-limit from 0 GB on"),
        (["--local-limit", "nan"], "a --local-limit from 0 GB on"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", "--input", str(tmp_path), "--index", str(tmp_path / "i"), *options]) == 2
    assert said in capsys.readouterr().err
