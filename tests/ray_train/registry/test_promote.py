"""Promotion: which models the pointer moves to, on disk and in a store."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.piped_lines import joined

from bisieve.cli.main import main
from bisieve.errors import StorageError, TrainingError
from bisieve.io.storage import exists, read_bytes, write_bytes
from bisieve.io.urls import canonical, join
from ray_train.registry import promote as module
from ray_train.registry.promote import promote

Made = tuple[str, str]  # URLs of a model and its metrics
Make = Callable[..., Made]


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """On a disk, where a test does not ask for both."""
    if getattr(request, "param", "disk") == "disk":
        return canonical(str(tmp_path))
    return f"{request.getfixturevalue('s3')}/{tmp_path.name}"


@pytest.fixture
def make(folder: str) -> Make:
    """Writes what `train` and `evaluate` leave, as far as promotion looks at it."""

    def write(name: str, bound: float | None = 0.7, **metrics: Any) -> Made:
        model, run = join(folder, name), f"{name}-1"
        card = {"run": run, "identity": {"index": "i"}, "config": {"max_length": 1}, "prompt_format": {}}
        write_bytes(join(model, "bisieve.json"), json.dumps(card).encode())
        write_bytes(join(model, "config.json"), b"{}")
        found = {
            "model": model, "run": run, "benchmark": "s3://b.jsonl", "benchmark_sha256": "b", "seed": 0,
            "solutions": 9, "steps": 20, "calibration_steps": 22, "confidence": 0.95,
            "overall_f1": 0.8, "pooled_macro_f1": 0.81, "auc": 0.9,
            "lower_bounds": {"overall_f1": bound, "pooled_macro_f1": 0.71, "auc": 0.6}, **metrics,
        }  # fmt: skip
        write_bytes(join(folder, f"{name}-metrics", "metrics.json"), json.dumps(found).encode())
        return model, join(folder, f"{name}-metrics")

    return write


def pointed(folder: str) -> Any:
    return json.loads(read_bytes(join(folder, "current.json")))


@pytest.mark.parametrize("folder", ["disk", "s3"], indirect=True)
def test_the_pointer_moves_to_models_that_are_not_worse_and_stays_otherwise(folder: str, make: Make) -> None:
    pointer = join(folder, "current.json")
    first, better, equal, worse = (
        make("first", 0.7),
        make("better", 0.71),
        make("equal", 0.71),
        make("worse", 0.7),
    )
    assert promote(*first, pointer).startswith(
        f"promoted: {first[0]} (overall_f1 0.8000, lower bound 0.7000)"
    )
    named = pointed(folder)
    assert {name: named[name] for name in ("model", "metrics", "metric", "value", "bound", "run")} == {
        "model": first[0], "metrics": join(first[1], "metrics.json"), "metric": "overall_f1",
        "value": 0.8, "bound": 0.7, "run": "first-1",
    }  # fmt: skip
    for model, metrics in (better, equal):
        assert promote(model, metrics, pointer).startswith("promoted: ")
        assert pointed(folder)["model"] == model
    assert promote(*equal, pointer).startswith("unchanged: ")
    told = promote(*worse, pointer)
    assert told.startswith(
        f"not promoted: {worse[0]} (overall_f1 0.8000, lower bound 0.7000); it is worse than"
    )
    assert told.endswith(f"{equal[0]} (overall_f1 0.8000, lower bound 0.7100)")
    assert pointed(folder)["model"] == equal[0]


def test_that_a_model_does_not_beat_the_position_is_said_and_is_not_in_the_pointer(
    folder: str, make: Make
) -> None:
    pointer, said = join(folder, "current.json"), "not shown to be above that of the position of a step alone"
    above = [make(str(low), position_baseline={"differences": {"auc": {"interval": [low, 0.1]}}})
             for low in (-0.01, 0.01)]  # fmt: skip
    unknown = make("unknown", position_baseline={"differences": {"auc": {"interval": None}}})
    found = [promote(*made, pointer) for made in (*above, unknown)]
    assert [said in line for line in found] == [True, False, False]
    assert all(line.startswith("promoted: ") for line in found)
    assert "beats_position" not in pointed(folder)


def test_a_model_that_bisieve_did_not_train_is_promoted_only_where_it_is_asked_for(
    folder: str, make: Make
) -> None:
    pointer, (model, metrics) = join(folder, "current.json"), make("other", run=None)
    Path(model.removeprefix("file://"), "bisieve.json").unlink()
    with pytest.raises(TrainingError, match=r"that bisieve train made.*give --untrained"):
        promote(model, metrics, pointer)
    assert not exists(pointer)
    assert promote(model, metrics, pointer, untrained=True).startswith("promoted: ")
    assert pointed(folder)["run"] is None


@pytest.mark.parametrize("other", [{"prompt": "paper-eval"}, {"threshold_on": "test"}], ids=str)
def test_an_evaluation_as_the_papers_code_does_it_promotes_only_where_it_is_asked_for(
    folder: str, make: Make, other: dict[str, str]
) -> None:
    pointer, made = join(folder, "current.json"), make("model", **other)
    ((name, value),) = other.items()
    with pytest.raises(
        TrainingError, match=rf"found {name} {value}, as in the paper's code; give --paper-eval"
    ):
        promote(*made, pointer)
    assert not exists(pointer)
    assert promote(*made, pointer, paper_eval=True).startswith("promoted: ")
    assert pointed(folder)["measured_on"][name] == value
    with pytest.raises(TrainingError, match=rf"expected {name} {value}, as of the evaluation of the current"):
        promote(*make("other"), pointer)


def test_a_fixed_threshold_was_not_tuned_and_is_compared_with_its_like_alone(folder: str, make: Make) -> None:
    pointer = join(folder, "current.json")
    assert promote(*make("fixed", threshold_on="fixed"), pointer).startswith("promoted: ")
    with pytest.raises(TrainingError, match=r"expected threshold_on fixed, .*; found calibration"):
        promote(*make("chosen"), pointer)


def test_metrics_and_pointers_from_before_there_was_a_choice_are_of_the_models_own_prompt(
    folder: str, make: Make
) -> None:
    pointer, old = join(folder, "current.json"), make("old", 0.7)
    promote(*old, pointer)
    assert pointed(folder)["measured_on"]["prompt"] == "training"
    written = pointed(folder)
    for name in ("prompt", "threshold_on"):
        del written["measured_on"][name]
    write_bytes(pointer, json.dumps(written).encode())
    own = {"prompt": "training", "threshold_on": "calibration"}
    assert promote(*make("new", 0.8, **own), pointer).startswith("promoted: ")


@pytest.mark.parametrize("folder", ["disk", "s3"], indirect=True)
def test_of_two_promoters_that_meet_one_is_refused(
    folder: str, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    pointer, made = join(folder, "current.json"), [make(f"m{number}") for number in range(8)]
    read = module.read_pointer(pointer)
    monkeypatch.setattr(module, "read_pointer", lambda url: read)  # all have read before one writes

    def wins(one: Made) -> bool:
        try:
            return promote(*one, pointer).startswith("promoted")
        except StorageError as error:
            return "found a version written by another run" not in str(error)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(wins, made))
    assert won.count(True) == 1
    assert pointed(folder)["model"] == made[won.index(True)][0]


@pytest.mark.parametrize(
    "other",
    [{"benchmark_sha256": "c"}, {"seed": 1}, {"steps": 19}, {"confidence": 0.9}],
    ids=lambda other: next(iter(other)),
)
def test_evaluations_on_other_steps_are_not_compared_until_the_current_model_is_evaluated_so(
    folder: str, make: Make, other: dict[str, Any]
) -> None:
    pointer = join(folder, "current.json")
    promote(*make("old", 0.9), pointer)
    candidate = make("new", 0.7, **other)
    before = pointed(folder)
    with pytest.raises(
        TrainingError, match=rf"expected {next(iter(other))} .*; evaluate \S*old with the same settings"
    ):
        promote(*candidate, pointer)
    assert pointed(folder) == before
    assert promote(*make("old", 0.6, **other), pointer).startswith("evaluated again: ")
    assert pointed(folder)["bound"] == 0.6
    assert promote(*candidate, pointer).startswith("promoted: ")


def test_the_pointer_remembers_numbers_whose_file_was_written_over(folder: str, make: Make) -> None:
    pointer = join(folder, "current.json")
    old = make("old", 0.9)
    promote(*old, pointer)
    new = make("new", 0.8)
    shared = join(old[1], "metrics.json")
    write_bytes(shared, read_bytes(join(new[1], "metrics.json")))
    assert promote(new[0], shared, pointer).startswith("not promoted: ")


def test_another_metric_can_be_chosen_later(folder: str, make: Make) -> None:
    pointer = join(folder, "current.json")
    promote(*make("old", 0.9), pointer)
    assert promote(*make("new", 0.1), pointer, "auc").startswith("promoted: ")
    assert (pointed(folder)["metric"], pointed(folder)["bound"]) == ("auc", 0.6)
    with pytest.raises(TrainingError, match="one kind of step is too rare; give another --metric"):
        promote(*make("none", None), pointer)


def test_metrics_of_another_model_or_of_an_earlier_run_promote_nothing(folder: str, make: Make) -> None:
    (one, _), (_, of_two), (stale, metrics) = make("one"), make("two"), make("three", run="three-0")
    with pytest.raises(TrainingError, match=r"expected an evaluation of .*one; found one of .*two"):
        promote(one, of_two, join(folder, "current.json"))
    with pytest.raises(TrainingError, match=r"the run three-0, which was evaluated, .* found three-1"):
        promote(stale, metrics, join(folder, "current.json"))
    assert not exists(join(folder, "current.json"))


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), "0.9"])
def test_what_is_no_number_is_not_promoted(bound: Any, folder: str, make: Make) -> None:
    with pytest.raises(TrainingError, match="numbers for overall_f1 and its lower bound"):
        promote(*make("broken", bound), join(folder, "current.json"))
    assert not exists(join(folder, "current.json"))


def test_what_is_no_evaluation_and_what_is_no_pointer_are_named(folder: str, make: Make) -> None:
    model, metrics = make("model")
    write_bytes(join(folder, "current.json"), b'{"model": "m"}')
    with pytest.raises(TrainingError, match=r"a pointer of bisieve promote at .*one without metrics"):
        promote(model, metrics, join(folder, "current.json"))
    for written, found in ((b"{}", "one without model"), (b"[]", "something else"), (b"{", "something")):
        write_bytes(join(metrics, "metrics.json"), written)
        with pytest.raises(TrainingError, match=f"with bounds, at .*; found {found}"):
            promote(model, metrics, join(folder, "other.json"))
    assert not exists(join(folder, "other.json"))


def test_the_command_says_what_became_of_it_and_a_worse_model_is_no_failure(
    folder: str, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for (model, metrics), told in ((make("good", 0.9), "promoted:"), (make("bad"), "not promoted:")):
        places = [url.removeprefix("file://") for url in (model, metrics)]
        ask = ["promote", "--model", places[0], "--metrics", f"{places[1]}/metrics.json"]
        assert main([*ask, "--pointer", str(tmp_path / "current.json")]) == 0
        (line,) = joined(capsys.readouterr().out).splitlines()
        assert line.startswith(told)
    assert pointed(folder)["run"] == "good-1"
    model, metrics = (url.removeprefix("file://") for url in make("theirs", 0.95, prompt="paper-eval"))
    ask = ["promote", "--model", model, "--metrics", metrics, "--pointer", str(tmp_path / "current.json")]
    assert main(ask) == 1
    assert "; give --paper-eval " in capsys.readouterr().err
    assert main(["promote", "--model", "m", "--metrics", "/nowhere", "--pointer", "p"]) == 1
    assert capsys.readouterr().err.startswith("bisieve: error: expected ")


def test_a_folder_without_an_evaluation_is_named(folder: str) -> None:
    with pytest.raises(StorageError, match=r"an evaluation \(metrics.json\) at .*; found none; make one"):
        promote(join(folder, "model"), join(folder, "empty"), join(folder, "current.json"))
