"""Options of scoring with a model: of an evaluation, and of best-of-N. Each is a flag and a TOML key."""

import re
from dataclasses import dataclass
from typing import ClassVar

from bisieve.errors import UsageError
from ray_train.choices import (
    AGGREGATES,
    CALIBRATION,
    DEVICES,
    OWN_TOKENS,
    PARAGRAPHS,
    PROMPTS,
    SPLITS,
    TRAINING,
    RewardTokens,
    is_system,
    threshold_of,
)
from ray_train.config import IMAGE_BACKENDS, SYSTEMS
from ray_train.config_io import option, require

# "Final answer: 12", "**Final answer** is 12.", or \boxed{\frac{1}{2}}; the last one in a solution counts.
ANSWER = (
    r"(?i)final answer[\s*]{0,4}(?:is\b\s*:?|:)[\s*]*(.*\w.*)"
    r"|\\boxed\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})+)\}"
)


@dataclass(frozen=True, kw_only=True)
class ScoringConfig:
    """Options of scoring solutions with a model, whatever the rewards are for."""

    model: str = option("hub id, folder or URL of a model, trained by bisieve or not", location="model")
    image_root: str = option("URL below which the images are", location="url")
    output: str = option("URL of the folder that gets the results", location="url")
    workers: int = option("Ray Data workers, one GPU each where there are GPUs", 2)
    device: str = option("what a worker computes on; auto: a GPU where there are any", "auto", DEVICES)
    batch: int = option("solutions a worker puts through the model at once", 16)
    max_length: int = option("tokens a solution may have; 0: as in training", 0)
    prompt: str = option(
        "how solutions are put to the model: as in its training, or as in the paper's evaluation", TRAINING,
        PROMPTS,
    )  # fmt: skip
    risk: float = option("standard deviations taken off the mean reward of a step, by a κ head", 0.0)
    server: str = option(
        "URL of a server of this model (vLLM, bisieve serve), which computes the rewards instead of workers",
        "", metavar="URL",
    )  # fmt: skip

    # For a model that bisieve trained these are in its card, and giving one is an error.
    marker: str = option(
        "token at which rewards are read, for a model that bisieve did not train", OWN_TOKENS.marker
    )
    positive: str = option("token whose probability is the reward, for such a model", OWN_TOKENS.positive)
    negative: str = option("token it is compared with, for such a model", OWN_TOKENS.negative)
    max_tiles: int = option(
        "most tiles of the images of a solution, for such a model; 0: 6 for InternVL, else 1", 0
    )
    image_backend: str = option("library that makes the pixels, for such a model", "pil", IMAGE_BACKENDS)
    system: str = option(
        "system turn, for such a model; family: its family's own, or none; or a text", "family"
    )

    # Titles of the groups of options in --help, each by its first option.
    GROUPS: ClassVar[dict[str, str]] = {
        "model": "model and places",
        "workers": "machines",
        "max_length": "prompt and reward",
        "marker": "a model that bisieve did not train",
    }

    @property
    def tokens(self) -> RewardTokens:
        """Marker and reward words of a model that bisieve did not train."""
        return RewardTokens(self.marker, self.positive, self.negative)

    def check(self) -> None:
        """Check the values of all options.

        Raises:
            UsageError: A value is out of range.
        """
        for name in ("workers", "batch"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of 1 or more")
        for name in ("max_length", "max_tiles"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(is_system(self.system), "system", self.system, SYSTEMS)
        for name, own in (("risk", 0.0), ("prompt", TRAINING)):
            if self.server and getattr(self, name) != own:
                found = str(getattr(self, name))
                raise UsageError(f"no --{name} with --server, which has none", found, f"leave out --{name}")
        require(self.risk >= 0, "risk", self.risk, "a number of 0 or more")
        for name in RewardTokens._fields:
            require(bool(getattr(self, name)), name, getattr(self, name), "a token")
        require(self.positive != self.negative, "negative", self.negative, "another token than --positive")


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(ScoringConfig):
    """Options of an evaluation."""

    benchmark: str = option("URL of a JSONL file in VisualProcessBench's schema", location="url")
    threshold: str | float = option(
        "reward from which a step is predicted right: calibration (chosen on a half that is not reported), a "
        "number, or test (tuned on the test set, as in the paper's code)",
        CALIBRATION, parse=threshold_of,
    )  # fmt: skip
    seed: int = option("seed of the split into a calibration half and a reported half", 0)
    confidence: float = option("confidence of the intervals and of the one-sided lower bounds", 0.95)

    GROUPS: ClassVar[dict[str, str]] = {**ScoringConfig.GROUPS, "benchmark": "benchmark and metrics"}

    def check(self) -> None:
        """Check the values of all options.

        Raises:
            UsageError: A value is out of range.
        """
        super().check()
        try:
            threshold_of(self.threshold)
        except ValueError as error:
            raise UsageError("another --threshold", str(error), "correct it") from error
        require(0 < self.confidence < 1, "confidence", self.confidence, "a number in (0, 1)")


@dataclass(frozen=True, kw_only=True)
class BestOfConfig(ScoringConfig):
    """Options of picking the best of several responses."""

    candidates: str = option(
        "URL of a JSONL or Parquet file of questions with their answer and N responses", location="url"
    )
    split: str = option("how a response that is a text is split into steps", PARAGRAPHS, SPLITS)
    answer_pattern: str = option(
        "regular expression of a final answer, whose first group counts at its last match, else the last "
        "line; by default what follows 'Final answer:' or is in \\boxed{}",
        ANSWER,
    )
    aggregate: str = option(
        "how the rewards of the steps become the score of a response, in picks.jsonl; the table has all",
        AGGREGATES[0], AGGREGATES,
    )  # fmt: skip
    seed: int = option("seed of the resamples", 0)
    confidence: float = option("confidence of the intervals", 0.95)

    GROUPS: ClassVar[dict[str, str]] = {**ScoringConfig.GROUPS, "candidates": "candidates and picks"}

    def check(self) -> None:
        """Check the values of all options.

        Raises:
            UsageError: A value is out of range.
        """
        super().check()
        require(0 < self.confidence < 1, "confidence", self.confidence, "a number in (0, 1)")
        try:
            groups = re.compile(self.answer_pattern).groups
        except re.error:
            groups = 0
        expected = "a regular expression with a group in parentheses"
        require(groups > 0, "answer_pattern", self.answer_pattern, expected)
