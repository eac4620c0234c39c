"""The whole path from checkpoints odd as the hub's to the rewards of the models trained from them."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image
from support.hubs import MODEL_TYPES
from support.plain_rewards import load_plain
from support.small_corpus import ROLLOUTS, Corpus

from bisieve.cli.main import main
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.scorer import Scorer
from ray_train.model.families import family_of
from ray_train.model.metadata import read_card

STEPS = 2
BY_COMMAND = "InternVL3"  # is evaluated by the command; the others by what it runs, which takes a third


def test_a_checkpoint_of_the_hub_is_counted_trained_on_two_workers_and_evaluated(
    hub_checkpoint: Path, corpus: Corpus, tmp_path: Path, ray_cluster: None, capfd: pytest.CaptureFixture[str]
) -> None:
    rollouts = sum(ROLLOUTS.values())
    model, report = tmp_path / "model", tmp_path / "report"
    training = [
        "train", f"--index={corpus.index}", f"--image-root={corpus.images}", f"--backbone={hub_checkpoint}",
        f"--output={model}", "--fraction=1", f"--global-batch={-(-rollouts // STEPS)}", "--workers=2",
        "--data-workers=0", "--track=none",
    ]  # fmt: skip
    family = family_of(MODEL_TYPES[hub_checkpoint.name])
    training += ["--pack-tokens=0"] if family.why_no_packs else []
    assert main([*training, "--dry-run"]) == 0
    shown, complaints = capfd.readouterr()
    assert re.search(r"\nparameters: vision .* frozen, projector .* trained, language .* trained\n", shown)
    assert shown.endswith("dry run: nothing was written\n")
    assert not model.exists()

    assert main(training) == 0
    shown, more = capfd.readouterr()
    card = read_card(str(model))
    assert card is not None
    assert f"\nstep {STEPS}/{STEPS}  loss" in shown
    assert card["metrics"]["rollouts"] == rollouts

    solutions = read_benchmark(corpus.benchmark)
    if hub_checkpoint.name == BY_COMMAND:
        judging = ["evaluate", f"--benchmark={corpus.benchmark}", f"--image-root={corpus.images}"]
        assert main([*judging, "--workers=1", f"--model={model}", f"--output={report}"]) == 0
        lines = (report / "scores.jsonl").read_text().splitlines()
        rewards = [json.loads(line)["rewards"] for line in lines]
    else:
        rewards = Scorer(str(model), max_length=0, max_tiles=0).score(solutions[:4], corpus.images)
    assert complaints + more + capfd.readouterr().err == ""
    plain = load_plain(model)
    for solution, found in list(zip(solutions, rewards, strict=False))[:4]:
        image = Image.open(Path(corpus.images, solution.images[0]))
        expected = plain.rewards(image, solution.question, list(solution.steps))
        assert found == pytest.approx(expected, abs=1e-6)
