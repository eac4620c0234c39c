"""``bisieve report --html``: a page, its numbers as JSON, and options that do not go together."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.reported import make_reported

import bisieve
from bisieve.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, score: Callable[..., Any]) -> tuple[str, str]:
    return make_reported(tmp_path_factory.mktemp("corpus"), score)


def test_a_page_and_its_first_lines(
    made: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index, images = made
    page = tmp_path / "page.html"
    assert main(["gate", "--index", index, "--max-reject-rate", "0.2"]) == 0
    capsys.readouterr()
    assert main(["report", "--index", index, "--html", str(page), "--image-root", images]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Gate passed. This version is the last one that passed bisieve gate."
    assert lines[-1] == f"page: {page}"
    assert page.read_text().startswith("<!doctype html>")
    assert len(page.read_bytes()) < 8_000_000


def test_a_random_selection_is_the_one_of_its_seed(
    made: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "best.jsonl"
    words = ["--index", made[0], "--fraction", "10%", "--strategy", "random", "--selection-seed", "3"]
    wanted = bisieve.open_index(made[0]).select("10%", strategy="random", seed=3)
    assert main(["export", *words, "--output", str(output)]) == 0
    wanted.write_jsonl(str(tmp_path / "wanted.jsonl"))
    assert output.read_bytes() == (tmp_path / "wanted.jsonl").read_bytes()
    capsys.readouterr()
    assert main(["report", *words, "--json"]) == 0
    (cut,) = json.loads(capsys.readouterr().out)["cuts"]
    assert (cut["parameters"]["seed"], cut["statistics"]) == (3, wanted.statistics.numbers())
    first = wanted.table["rollout_id"][0].as_py()
    assert main(["show", first, *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"]


def test_json_has_every_number_of_the_page(
    made: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", "--index", made[0], "--html", str(tmp_path / "page.html"), "--json"]
    assert main([*words, "--fraction", "10%", "--alpha", "0.2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["fraction"], found["parameters"]["alpha"], found["selection"]["rollouts"]) == (0.1, 0.2, 8)
    embedded = (tmp_path / "page.html").read_text().split('id="numbers">')[1].split("</script>")[0]
    assert json.loads(embedded) == found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--fraction", "10%", "25%", "--html", "page.html"],
            "expected a single --fraction beside --html; found 2",
        ),
        (["--image-root", "images"], "expected --html beside --image-root; found none"),
        (["--compare", "other"], "expected --html beside --compare; found none"),
        (["--html", "{index}/manifest.json"], "expected"),
        (["--html", "page.html", "--alpha", "-1"], "expected an --alpha from 0 on; found -1.0"),
    ],
    ids=" ".join,
)
def test_options_that_do_not_go_together_are_refused(
    made: tuple[str, str], words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [word.format(index=made[0]) for word in words]
    assert main(["report", "--index", made[0], *asked]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"bisieve: error: {expected}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "one of --index, --metrics, --run"),
        (["--run", "model"], "--html beside --run"),
        (["--metrics", "m", "--html", "page.html", "--alpha", "0.1"], "--alpha beside --index"),
    ],
)
def test_a_subject_is_needed_and_its_options(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *words]) == 2
    assert capsys.readouterr().err.startswith(f"bisieve: error: expected {expected}")
