"""The page of a model: what it says, that its code runs, and what an evaluation adds to it."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from PIL import Image
from support.published import publish

from ray_train import StepScorer
from ray_train.evaluation.page import add_to_page, with_evaluation
from ray_train.model.model_card import README, named_after
from ray_train.model.skeleton import load_skeleton_processor

STEPS = ["The bars are 3, 7 and 5 high.", "The answer is left."]
NUMBERS: dict[str, Any] = {
    "trained": True, "prompt": "training", "threshold_on": "calibration", "threshold": 0.61,
    "benchmark": "s3://bucket/test.jsonl", "benchmark_sha256": "ab" * 32, "confidence": 0.95, "steps": 1200,
    "overall_f1": 0.65432, "pooled_macro_f1": 0.66, "auc": None,
    "intervals": {"overall_f1": [0.61, 0.69], "pooled_macro_f1": None},
    "position_baseline": {
        "overall_f1": 0.58, "pooled_macro_f1": None, "auc": None,
        "differences": {
            "overall_f1": {"interval": [0.02, 0.1]}, "pooled_macro_f1": {"interval": None},
            "auc": {"interval": None},
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def model(internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "mprm"
    publish(internvl, folder)
    Image.linear_gradient("L").convert("RGB").resize((90, 40)).save(folder / "chart.png")
    return folder


def page_of(model: Path) -> str:
    return (model / README).read_text()


def test_the_header_is_what_the_hub_reads(model: Path) -> None:
    header = ModelCard(page_of(model)).data.to_dict()
    assert header["library_name"] == "transformers"
    assert header["pipeline_tag"] == "image-text-to-text"
    assert header["base_model"] == "some-lab/Some-VL-1B-hf"
    assert {"process-reward-model", "internvl"} <= set(header["tags"])
    assert "model-index" not in header


def test_the_page_says_what_the_model_is_made_of(model: Path) -> None:
    text = page_of(model)
    headings = ["Use it", "What it reads", "Data", "Recipe", "Evaluation", "Limits"]
    assert re.findall("^## (.+)$", text, re.MULTILINE) == headings
    for part in (
        "# mprm\n", "| rollouts | 1,234, 10.00% of the index |", "| strategy | bis |\n| alpha | 0.2 |",
        "| learning rate | 1e-05 |",
        "macro-F1 0.7000 (0.6000 to 0.8000)", "has not been evaluated yet",
        "longer than 8,192 tokens", "vllm serve", "Which bar is highest?\nProcess: The bars",
    ):  # fmt: skip
        assert part in text
    assert "file://" not in text, "no place of the machine that trained it"


def test_a_backbone_of_a_folder_is_named_without_its_path(internvl: Path, tmp_path: Path) -> None:
    publish(internvl, tmp_path / "model", backbone="file:///home/someone/bases/tiny")
    text = page_of(tmp_path / "model")
    assert "from\n`tiny`." in text
    assert "someone" not in text
    assert "base_model" not in ModelCard(text).data.to_dict()


def without_torchvision(folder: str) -> Any:
    """Return what AutoProcessor would load, without a video processor, which needs torchvision."""
    _, processor = load_skeleton_processor(folder)
    processor.chat_template = Path(folder, "chat_template.jinja").read_text()
    return processor


def test_the_code_of_the_page_runs_and_both_ways_give_the_same_rewards(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall("^```python\n(.*?)^```", page_of(model), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(model)
    if not find_spec("torchvision"):
        monkeypatch.setattr("transformers.AutoProcessor.from_pretrained", without_torchvision)
    for block in blocks:
        exec(compile(block, README, "exec"), {"__name__": "page"})
    with_bisieve, alone = (
        json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("[")
    )
    expected = StepScorer(str(model)).score("Which bar is highest?", [model / "chart.png"], STEPS)
    assert with_bisieve == pytest.approx(expected, abs=1e-6)
    assert alone == pytest.approx(expected, abs=1e-5)


def test_an_evaluation_adds_its_results_and_a_new_one_replaces_them(model: Path) -> None:
    once = with_evaluation(page_of(model), NUMBERS)
    assert once is not None
    assert (
        "| test.jsonl (abababababababab) | macro-F1 by source | 0.6543 | 0.6100 to 0.6900 | 0.5800 | 1,200 |"
        in once
    )
    assert "| macro-F1 pooled | 0.6600 | unknown | unknown |" in once
    twice = with_evaluation(once, NUMBERS | {"overall_f1": 0.7, "intervals": {"overall_f1": [0.6, 0.8],
                                             "pooled_macro_f1": [0.5, 0.7]}})  # fmt: skip
    assert twice is not None
    assert "0.6543" not in twice
    assert "0.7000 | 0.6000 to 0.8000" in twice
    other = with_evaluation(twice, NUMBERS | {"benchmark": "other.jsonl", "benchmark_sha256": "cd" * 32})
    assert other is not None
    found = ModelCard(other).data.eval_results
    assert [(each.dataset_name, each.metric_type) for each in found] == [
        ("test.jsonl", "overall_f1"), ("test.jsonl", "pooled_macro_f1"),
        ("other.jsonl", "overall_f1"), ("other.jsonl", "pooled_macro_f1"),
    ]  # fmt: skip
    assert "0.7000" in other
    assert "has not been evaluated" not in other
    body = page_of(model).split("## Recipe")[1].split("## Evaluation")[0]
    assert body in other


@pytest.mark.parametrize(("low", "is_said"), [(-0.01, True), (0.0, True), (0.01, False)])
def test_a_model_that_does_not_beat_the_position_says_so_on_its_page(
    model: Path, low: float, is_said: bool
) -> None:
    numbers = NUMBERS | {"auc": 0.62, "intervals": NUMBERS["intervals"] | {"auc": [0.6, 0.64]}}
    numbers["position_baseline"] = NUMBERS["position_baseline"] | {"auc": 0.61}
    differences = NUMBERS["position_baseline"]["differences"] | {"auc": {"interval": [low, 0.03]}}
    numbers["position_baseline"] |= {"differences": differences}
    page = with_evaluation(page_of(model), numbers)
    assert page is not None
    assert "| AUC | 0.6200 | 0.6000 to 0.6400 | 0.6100 | 1,200 |" in page
    sentence = "On test.jsonl this model is not shown to beat the position of a step alone"
    assert (sentence in page) == is_said
    again = with_evaluation(page, NUMBERS | {"benchmark": "other.jsonl", "benchmark_sha256": "cd" * 32})
    assert again is not None
    assert (sentence in again) == is_said


def test_a_page_of_an_older_version_keeps_its_results(model: Path) -> None:
    page = with_evaluation(page_of(model), NUMBERS)
    assert page is not None
    older = re.sub(r" +(by_position|above_position): .*\n", "", page)
    assert older != page
    found = with_evaluation(older, NUMBERS | {"benchmark": "other.jsonl", "benchmark_sha256": "cd" * 32})
    assert found is not None
    assert "| 0.6543 | 0.6100 to 0.6900 | unknown | 1,200 |" in found


@pytest.fixture
def local(model: Path, tmp_path: Path) -> Path:
    (tmp_path / README).write_text(page_of(model) + "\nA sentence of its owner.\n")
    return tmp_path


def test_the_page_of_a_local_folder_gets_the_results(local: Path) -> None:
    assert add_to_page(f"file://{local}", NUMBERS) == f"model card: file://{local}/README.md"
    assert "0.6543" in page_of(local)
    assert page_of(local).endswith("A sentence of its owner.\n")


@pytest.mark.parametrize(
    "changed", [{"trained": False}, {"prompt": "paper-eval"}, {"threshold_on": "test"}], ids=str
)
def test_results_that_are_not_for_the_page_leave_it_as_it_is(changed: dict[str, Any], local: Path) -> None:
    before = page_of(local)
    assert add_to_page(f"file://{local}", NUMBERS | changed) == ""
    assert page_of(local) == before


def test_a_page_without_the_section_or_with_a_broken_header_is_left_as_it_is(local: Path) -> None:
    whole = page_of(local)
    (local / README).write_text("# My own page\n")
    assert add_to_page(f"file://{local}", NUMBERS) == ""
    (local / README).write_text(whole.replace("tags:", "tags: ["))
    assert add_to_page(f"file://{local}", NUMBERS).startswith("note: README.md of the model is unchanged: ")
    (local / README).unlink()
    assert add_to_page(f"file://{local}", NUMBERS) == ""


def test_the_examples_of_a_model_of_the_hub_load_it_from_there(model: Path) -> None:
    text = named_after(page_of(model), "some-lab/mprm")
    assert text.count('MODEL = "some-lab/mprm"') == 2
    assert 'MODEL = "."' not in text
