"""Wrong options of `bisieve serve` are refused before Ray starts."""

from pathlib import Path

import pytest

from bisieve.cli.main import run_command


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--num-replicas", "0"], "an integer of 1 or more for --num-replicas; found 0"),
        (["--batch", "0"], "an integer of 1 or more for --batch"),
        (["--max-queue", "0"], "an integer of 1 or more for --max-queue"),
        (["--max-body", "0"], "a number above 0 for --max-body"),
        (["--max-pixels", "1000000000"], "an integer from 1 to 67,108,864 for --max-pixels"),
        (["--gpus-per-replica", "2"], "a number from 0 to 1 (a replica computes on one GPU), or -1"),
        (["--port", "70000"], "a port from 0 to 65535"),
        (["--grace", "-1"], "0 or more for --grace"),
        (["--max-bodi", "1"], "did you mean --max-body?"),
    ],
)
def test_a_wrong_value_is_one_error(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command("ray_train.cli.serve", ["--model", "model", *words]) == 2
    assert expected in capsys.readouterr().err


def test_options_come_from_a_file_and_are_printed_for_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "serve.toml"
    config.write_text('model = "some-lab/mprm"\nport = 9000\nmax-queue = 4\n')
    words = ["--config", str(config), "--batch", "8", "--print-config"]
    assert run_command("ray_train.cli.serve", words) == 0
    printed = capsys.readouterr().out.splitlines()
    assert {'model = "some-lab/mprm"', "port = 9000", "max_queue = 4", "batch = 8"} <= set(printed)


def test_a_model_that_is_missing_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("ray_train.cli.serve", ["--model", str(tmp_path / "none"), "--port", "0"]) == 1
    assert "expected a model (config.json)" in capsys.readouterr().err
