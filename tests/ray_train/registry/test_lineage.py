"""The chain from the shards to an evaluation, walked from any end of it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.runs import last_checkpoint
from support.small_corpus import Corpus

from bisieve.cli.main import main
from bisieve.errors import TrainingError
from bisieve.index.reader import open_index
from ray_train.config import TrainConfig
from ray_train.evaluation.config import EvaluateConfig
from ray_train.evaluation.evaluate import evaluate
from ray_train.model.files import contents_of
from ray_train.registry.lineage import Link, chain_of
from ray_train.registry.promote import promote


@pytest.fixture(scope="module")
def metrics(trained: TrainConfig, corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the evaluation of the trained model lies."""
    output = str(tmp_path_factory.mktemp("metrics"))
    evaluate(EvaluateConfig(model=trained.output, benchmark=corpus.benchmark, image_root=corpus.images,
                            output=output, workers=1))  # fmt: skip
    return f"file://{output}"


def kinds(chain: list[Link]) -> list[str]:
    return [link.kind for link in chain]


def broken(chain: list[Link]) -> dict[str, str]:
    return {link.kind: link.broken for link in chain if link.broken}


def test_an_evaluation_leads_back_to_the_shards(metrics: str, trained: TrainConfig, corpus: Corpus) -> None:
    chain = chain_of(metrics)
    shards, index, run, evaluation = chain
    assert kinds(chain) == ["shards", "index", "run", "evaluation"]
    assert not broken(chain)
    assert shards.facts["inputs"] == [str(corpus.shards)]
    assert shards.facts["shards"] == 2
    assert index.name == open_index(corpus.index).fingerprint[:16]
    assert run.url.endswith(trained.output)
    assert run.facts["finished"] is True
    assert evaluation.name == run.name
    assert chain_of(f"{metrics}/metrics.json") == chain


def test_a_checkpoint_leads_back_to_the_shards(trained: TrainConfig) -> None:
    checkpoint = last_checkpoint(trained.output)
    chain = chain_of(checkpoint)
    assert kinds(chain) == ["shards", "index", "run", "checkpoint"]
    assert not broken(chain)
    assert chain[-1].name == "step 8"


def test_a_run_without_a_model_knows_its_index(trained: TrainConfig, tmp_path: Path) -> None:
    shutil.copytree(trained.output, tmp_path / "run", ignore=shutil.ignore_patterns("bisieve.json"))
    chain = chain_of(str(tmp_path / "run"))
    assert kinds(chain) == ["shards", "index", "run"]
    assert chain[-1].facts["finished"] is False
    for facts in (chain[-1].facts, chain_of(trained.output)[-1].facts):
        assert facts["backbone"] == f"file://{trained.backbone}"
        assert facts["contents"] == contents_of(trained.backbone)
    assert chain[-1].name == chain_of(trained.output)[-1].name


def test_a_run_shows_by_which_ids_it_leaves_rollouts_out(tmp_path: Path) -> None:
    identity = {"seed": 0, "selection": "s" * 64, "exclude": "e" * 64}
    (tmp_path / "run.json").write_text(json.dumps({"run": "r-1", "identity": identity}))
    (run,) = chain_of(str(tmp_path))
    assert run.facts["excluded_ids"] == "e" * 16


def test_a_model_that_was_copied_elsewhere_knows_its_run(trained: TrainConfig, tmp_path: Path) -> None:
    shutil.copytree(trained.output, tmp_path / "model", ignore=shutil.ignore_patterns("run*", "tensorboard"))
    chain = chain_of(str(tmp_path / "model"))
    assert kinds(chain) == ["shards", "index", "run"]
    assert not broken(chain)


def test_a_pointer_leads_to_what_it_names(metrics: str, trained: TrainConfig, tmp_path: Path) -> None:
    pointer = str(tmp_path / "current.json")
    assert promote(trained.output, metrics, pointer).startswith("promoted: ")
    chain = chain_of(pointer)
    assert kinds(chain) == ["shards", "index", "run", "evaluation", "pointer"]
    assert not broken(chain)


def test_an_index_leads_to_its_shards(corpus: Corpus) -> None:
    assert kinds(chain_of(corpus.index)) == ["shards", "index"]


def test_picks_lead_back_to_the_shards(trained: TrainConfig, tmp_path: Path) -> None:
    run = chain_of(trained.output)[-1].name
    document = {"model": trained.output, "run": run, "candidates": "c.jsonl", "questions": 3}
    (tmp_path / "best-of.json").write_text(json.dumps(document))
    chain = chain_of(str(tmp_path))
    assert kinds(chain) == ["shards", "index", "run", "picks"]
    assert not broken(chain)
    assert (chain[-1].name, chain[-1].facts["questions"]) == (run, 3)
    assert chain_of(str(tmp_path / "best-of.json"), "picks") == chain
    (tmp_path / "best-of.json").write_text(json.dumps({**document, "run": "other-1"}))
    assert broken(chain_of(str(tmp_path))) == {"run": f"the run there is {run} now"}


def test_links_that_are_gone_are_named_and_the_rest_is_shown(
    metrics: str, trained: TrainConfig, corpus: Corpus, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.output, model, ignore=shutil.ignore_patterns("runs", "tensorboard"))
    card = json.loads((model / "bisieve.json").read_text())
    card["identity"]["index"] = "0" * 64
    (model / "bisieve.json").write_text(json.dumps(card))
    chain = chain_of(str(model))
    assert kinds(chain) == ["index", "run"]
    assert broken(chain)["index"].startswith("another version is there now")

    evaluation = tmp_path / "metrics"
    evaluation.mkdir()
    said = json.loads(Path(metrics.removeprefix("file://"), "metrics.json").read_text())
    (evaluation / "metrics.json").write_text(json.dumps({**said, "run": "other-1"}))
    chain = chain_of(str(evaluation))
    assert kinds(chain) == ["run", "evaluation"]
    assert broken(chain) == {"run": f"the run there is {said['run']} now"}


def test_shards_and_files_of_an_index_that_are_gone_are_named(
    score: Callable[..., Any], indexed: Path, tmp_path: Path
) -> None:
    assert not broken(chain_of(str(indexed)))
    (tmp_path / "indexed.jsonl").unlink()
    next(indexed.rglob("part-*.parquet")).unlink()
    found = broken(chain_of(str(indexed)))
    assert "indexed.jsonl" in found["shards"]
    assert found["index"].startswith("1 file gone, such as versions/")


def test_a_checkpoint_of_a_run_that_was_restarted_is_not_told_as_of_the_new_one(
    trained: TrainConfig, tmp_path: Path
) -> None:
    shutil.copytree(trained.output, tmp_path / "run", ignore=shutil.ignore_patterns("bisieve.json"))
    checkpoint = next(file.parent for file in (tmp_path / "run/runs").rglob("cursor.json"))
    record = json.loads((tmp_path / "run/run.json").read_text())
    (tmp_path / "run/run.json").write_text(json.dumps({**record, "run": "other-2"}))
    chain = chain_of(str(checkpoint))
    assert (kinds(chain), chain[0].name) == (["run", "checkpoint"], record["run"])
    assert broken(chain) == {"run": "the run there is other-2 now"}
    (tmp_path / "run/run.json").write_text(json.dumps({**record, "identity": None}))
    assert broken(chain_of(str(tmp_path / "run"))) == {"run": "its identity is not written there"}


def test_a_run_names_the_options_of_its_selection_that_its_index_does_not_have(tmp_path: Path) -> None:
    identity = {"seed": 1, "selection": "f" * 64, "backbone": "b", "strategy": "paired", "alpha": 0.2}
    (tmp_path / "run.json").write_text(json.dumps({"run": "r-1", "backbone": "b", "identity": identity}))
    (link,) = chain_of(str(tmp_path))
    assert (link.facts["strategy"], link.facts["alpha"], link.facts["seed"]) == ("paired", 0.2, 1)
    assert "ties" not in link.facts


def test_what_is_none_of_ours_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    for url in (tmp_path, tmp_path / "x.json", tmp_path / "nothing"):
        with pytest.raises(TrainingError):
            chain_of(str(url))


def test_a_chain_starts_at_what_the_caller_names(corpus: Corpus, trained: TrainConfig) -> None:
    assert [link.kind for link in chain_of(trained.output, "model")] == ["shards", "index", "run"]
    assert [link.kind for link in chain_of(trained.index, "index")] == ["shards", "index"]
    for start, expected in (
        ("index", "an index"),
        ("checkpoint", "a checkpoint"),
        ("metrics", "what bisieve"),
    ):
        with pytest.raises(TrainingError, match=f"expected {expected}.*; found none at "):
            chain_of(trained.output, start)


def test_the_command_prints_lines_or_json_and_its_code_tells_a_broken_chain(
    corpus: Corpus, trained: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lineage", "--model", trained.output]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^( *└─ |)(shards|index|run) ", text, re.MULTILINE) == [
        ("", "shards"), ("└─ ", "index"), ("   └─ ", "run"),
    ]  # fmt: skip
    assert main(["lineage", "--model", trained.output, "--json"]) == 0
    assert [link["kind"] for link in json.loads(capsys.readouterr().out)] == ["shards", "index", "run"]
    shutil.copytree(last_checkpoint(trained.output).removeprefix("file://"), tmp_path / "a/runs/b/checkpoint")
    assert main(["lineage", "--checkpoint", str(tmp_path / "a/runs/b/checkpoint")]) == 1
    assert "BROKEN: no run.json there" in capsys.readouterr().out
