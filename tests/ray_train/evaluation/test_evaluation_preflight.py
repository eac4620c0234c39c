"""What the command `bisieve evaluate` finds wrong before Ray starts, in one line each."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.runs import flags
from support.small_corpus import Corpus, make_solution

from bisieve.errors import BisieveError, TrainingError
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.preflight import checked_format, refuse_decided
from ray_train.model.metadata import card_of
from ray_train.registry.lineage import chain_of

CARD: dict[str, Any] = {
    "run": "r", "identity": {"index": "i"}, "config": {"max_length": 2048},
    "prompt_format": {"image_slot": "<IMG_CONTEXT>", "image_options": {}},
}  # fmt: skip
# One process for all: what is imported for one command is there for the next, and Ray must not be.
RUN_ALL = """
import contextlib, io, json, sys
from bisieve.cli.main import main
for line in sys.stdin:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(["evaluate", *json.loads(line)])
    print(json.dumps([code, said.getvalue(), "ray" in sys.modules]), flush=True)
"""


def test_each_is_one_line_and_no_ray_is_imported(internvl: Path, corpus: Corpus, tmp_path: Path) -> None:
    def model(name: str, config: Any = None, card: Any = None, without: str = "") -> dict[str, Any]:
        folder = tmp_path / name
        shutil.copytree(internvl, folder)
        if config is not None:
            (folder / "config.json").write_text(json.dumps(config))
        if card is not None:
            (folder / "bisieve.json").write_text(json.dumps(card))
        if without:
            (folder / without).unlink()
        return {"model": folder}

    original = {"model_type": "internvl_chat", "auto_map": {"AutoModel": "modeling_internvl_chat.X"}}
    (tmp_path / "empty").mkdir()
    truncated = model("cut")
    (truncated["model"] / "model.safetensors").write_bytes(b"torn")
    in_text = tmp_path / "in_text.jsonl"
    in_text.write_text(json.dumps(make_solution(0) | {"question": "Is </img> here?"}) + "\n")
    one, neutral = make_solution(0), tmp_path / "neutral.jsonl"
    one["response"]["process_correctness"] = [0] * len(one["response"]["steps"])
    neutral.write_text(json.dumps(one) + "\n")
    of_one = tmp_path / "one.jsonl"
    of_one.write_text(json.dumps(make_solution(0)) + "\n")
    cases: list[tuple[dict[str, Any], int, str]] = [
        (model("bert", {"model_type": "bert"}), 1, "expected a backbone of type gemma3 or internvl or "),
        (model("InternVL3-1B", original), 1, "use its -hf checkpoint, as --model OpenGVLab/InternVL3-1B-hf"),
        ({"model": tmp_path / "empty"}, 1, "expected a model (config.json) at "),
        (model("pickled", without="model.safetensors"), 1, "none of these, and pickled ones (.bin) are not"),
        (truncated, 1, "model.safetensors that is damaged or cut off"),
        (model("mute", without="tokenizer.json"), 1, "expected config, tokenizer and image processor at "),
        (model("blind", without="preprocessor_config.json"), 1, "check --model"),
        ({"benchmark": tmp_path / "no.jsonl"}, 1, "no.jsonl"),
        ({"benchmark": neutral, "threshold": 0.5}, 1, "expected a judged step that the model scored; found"),
        ({"benchmark": of_one}, 1, "another --seed, or a number as --threshold"),
        ({"image_root": tmp_path / "no"}, 1, "such as 0.png; correct --image-root or --benchmark"),
        ({"output": Path(corpus.benchmark, "below")}, 1, "expected a folder at "),
        ({"device": "gpu"}, 1, "for --workers 2 --device gpu; found 0"),
        ({"risk": 0.5}, 1, "leave out --risk"),
        (model("headless", card=CARD | {"kappa": "kappa.safetensors"}), 1, "expected the κ head of the"),
        (model("odd", card=CARD | {"prompt_format": {"hed": ""}}), 1, "expected a prompt_format of this"),
        (model("ours", card=CARD) | {"marker": "</img>"}, 2, "found --marker </img>; leave out --marker"),
        ({"model": tmp_path / "ours", "max_tiles": 3}, 2, "found --max-tiles 3; leave out --max-tiles"),
        ({"marker": "<extra_0>"}, 1, "one token; found no such token"),
        ({"marker": "</img>"}, 1, "found </img>, which stands for images or padding; give another --marker"),
        ({"marker": "<|im_end|>"}, 1, " of them; give a --marker"),
        ({"positive": "Perhaps"}, 1, "; give another --positive"),
        ({"positive": "No"}, 2, "expected another token than --positive for --negative"),
        ({"marker": "</img>", "benchmark": in_text}, 1, "the marker </img> in the text"),
        ({"prompt": "paper_eval"}, 2, "did you mean paper-eval?"),
    ]  # fmt: skip
    usual = {
        "model": internvl, "benchmark": corpus.benchmark, "image_root": corpus.images,
        "output": tmp_path / "metrics", "device": "cpu",
    }  # fmt: skip
    commands = "".join(json.dumps(flags({**usual, **case})) + "\n" for case, _, _ in cases)
    done = subprocess.run(
        [sys.executable, "-c", RUN_ALL], input=commands, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for (case, code, text), line in zip(cases, done.stdout.splitlines(), strict=True):
        ended, said, ray_is_there = json.loads(line)
        assert (ended, ray_is_there) == (code, False), (case, said)
        assert text in said, (case, said)
        assert len(said.splitlines()) == 1, (case, said)
    assert not (tmp_path / "metrics").exists()


@pytest.fixture
def config(internvl: Path, corpus: Corpus, tmp_path: Path) -> EvaluateConfig:
    return EvaluateConfig(
        model=f"file://{internvl}", benchmark=corpus.benchmark, image_root=corpus.images, output=str(tmp_path)
    )


@pytest.mark.parametrize("name", ["marker", "positive", "negative", "max_tiles", "image_backend", "system"])
def test_an_option_that_a_card_decides_is_refused_beside_one_alone(config: EvaluateConfig, name: str) -> None:
    given = replace(config, **{name: 2 if name == "max_tiles" else "none"})
    refuse_decided(given, None)
    refuse_decided(replace(config, prompt="paper-eval", threshold="test", max_length=64), CARD)
    with pytest.raises(BisieveError, match=r"its bisieve\.json sets this option"):
        refuse_decided(given, CARD)


def test_a_marker_that_melts_into_its_neighbours_is_refused(
    config: EvaluateConfig, rewritten: Callable[[str], str]
) -> None:
    """``git`` is a token of the vocabulary, and so is `` digit``."""
    solutions = read_benchmark(rewritten("See the di"), "git")
    expected = r"a token 'git' behind each of the 3 steps in line 1 .*; found 0 of them; give a --marker"
    with pytest.raises(TrainingError, match=expected):
        checked_format(replace(config, marker="git"), None, solutions)
    solutions = read_benchmark(rewritten("See the 3 "), "git")
    assert checked_format(replace(config, marker="git"), None, solutions).marker == "git"


@pytest.fixture
def rewritten(tmp_path: Path) -> Callable[[str], str]:
    """Write a benchmark of one solution whose steps are all ``step``."""

    def write(step: str) -> str:
        record = make_solution(0)
        record["response"]["steps"] = [step] * 3
        (tmp_path / "one.jsonl").write_text(json.dumps(record) + "\n")
        return str(tmp_path / "one.jsonl")

    return write


def test_a_model_of_the_hub_that_bisieve_trained_is_known_by_its_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's cache is laid out by hand, since there is no hub here."""
    for name, card in (("ours", CARD), ("others", None)):
        folder = tmp_path / f"models--lab--{name}"
        snapshot = folder / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("a" * 40)
        (snapshot / "config.json").write_text('{"model_type": "internvl"}')
        if card is not None:
            (snapshot / "bisieve.json").write_text(json.dumps(card))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert card_of("lab/ours") == CARD
    assert card_of("lab/others") is None
    (tmp_path / "metrics.json").write_text(json.dumps({"model": "lab/ours", "run": "r", "benchmark": "b"}))
    links = chain_of(str(tmp_path))
    assert [(link.kind, link.name, link.broken) for link in links] == [
        ("run", "r", None), ("evaluation", "r", None),
    ]  # fmt: skip
