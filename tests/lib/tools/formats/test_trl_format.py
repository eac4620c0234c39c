"""TRL's stepwise supervision, and what is said of what its trainer does not read."""

from dataclasses import replace

from bisieve.records.model import Rollout
from bisieve.tools.formats.line_format import Findings
from bisieve.tools.formats.trl import TRL

ROLLOUT = Rollout("r", "a.png", "How many?", ("One,\ntwo.", "Three."), (0.5, 0.0), (8, 0), (16, 16))


def test_a_prompt_has_steps_and_labels() -> None:
    assert TRL.convert(ROLLOUT, 0.0) == {
        "prompt": "How many?",
        "completions": ["One,\ntwo.", "Three."],
        "labels": [True, False],
        "images": ["a.png"],
    }


def test_what_the_trainer_does_not_read_is_said_with_its_number() -> None:
    findings = Findings(TRL)
    whole = replace(
        ROLLOUT, rollout_id="s", steps=("One.", "Two."), scores=(1.0, 0.0), mc_correct=None, mc_total=None
    )
    assert all(map(findings.carries, [ROLLOUT, whole, replace(ROLLOUT, rollout_id="t")]))
    assert findings.notes == [
        "trl: images, which PRMTrainer does not read; 3 rollouts, such as r",
        "trl: steps with line breaks: set another step_separator in PRMConfig; 2 rollouts, such as r",
        "trl: scores between 0 and 1, written as labels; 2 rollouts, such as r",
        "trl: counts of continuations (K, N), not written; 2 rollouts, such as r",
    ]
