"""Checks of the driver before any worker starts: options, benchmark, and the model without its weights."""

import dataclasses
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from bisieve import console
from bisieve.errors import TrainingError, UsageError
from bisieve.io import storage
from bisieve.io.images import missing_images, refuse_missing
from bisieve.io.storage import require_writable
from bisieve.io.urls import join
from bisieve.records.prompt import MARKER
from ray_train.choices import threshold_of
from ray_train.cluster import check_device
from ray_train.config_io import flag_of
from ray_train.evaluation.benchmark import Solution, read_benchmark
from ray_train.evaluation.config import EvaluateConfig, ScoringConfig
from ray_train.evaluation.protocol import prompt_of
from ray_train.evaluation.thresholds import check_judged_steps, in_calibration_half
from ray_train.model.backbone import Backbone
from ray_train.model.files import check_weights
from ray_train.model.metadata import CARD, card_of, check_model, require_kappa
from ray_train.model.prompt_format import PromptFormat, format_in, format_of
from ray_train.model.skeleton import load_skeleton_processor

_OF_THE_CARD = ("max_tiles", "image_backend", "system", "marker", "positive", "negative")


def checked_model(config: ScoringConfig) -> dict[str, Any] | None:
    """Check output, device and model, without Ray and without the model's weights.

    Returns:
        Content of the model's ``bisieve.json``; None for a model that bisieve did not train.

    Raises:
        BisieveError: One of them cannot be used, or an option contradicts the model's card.
    """
    require_writable(config.output)
    check_device(config.device, config.workers)
    check_model(config.model, "--model")
    card = card_of(config.model)
    refuse_decided(config, card)
    if config.server and card is None:
        raise TrainingError(
            f"a model that bisieve trained, with {CARD}, for --server", f"none at {config.model}",
            "leave out --server",
        )  # fmt: skip
    if config.risk:
        require_kappa(card, config.model)
    return card


def refuse_decided(config: ScoringConfig, card: dict[str, Any] | None) -> None:
    """Refuse options whose values are given by the model's card.

    Args:
        config: Options of the evaluation.
        card: Content of the model's ``bisieve.json``; None for a model that bisieve did not train.

    Raises:
        UsageError: There is a card, and such an option is not at its default.
    """
    defaults = {item.name: item.default for item in dataclasses.fields(config)}
    given = [name for name in _OF_THE_CARD if getattr(config, name) != defaults[name]]
    if card is not None and given:
        flag = flag_of(given[0])
        raise UsageError(
            f"no {flag} for a model that bisieve trained: its {CARD} sets this option",
            f"{flag} {getattr(config, given[0])}",
            f"leave out {flag}",
        )


def checked_solutions(config: EvaluateConfig, card: dict[str, Any] | None) -> list[Solution]:
    """Read the solutions of the benchmark and check that all their images exist.

    Raises:
        TrainingError: The benchmark is malformed or empty, has the model's marker in a text, or has no judged
            steps to choose the threshold on or to report.
        ImageError: Images are missing.
    """
    solutions = read_benchmark(config.benchmark, marker_of(config, card))
    check_judged(config, solutions)
    check_images(config, solutions, "--benchmark")
    return solutions


def check_judged(config: EvaluateConfig, solutions: Sequence[Solution]) -> None:
    """Raise `TrainingError` unless there are judged steps to choose the threshold on and to report."""
    questions = [each.question_key for each in solutions for judgement in each.judgements if judgement]
    check_judged_steps(in_calibration_half(questions, config.seed), threshold_of(config.threshold))


def marker_of(config: ScoringConfig, card: dict[str, Any] | None) -> str:
    """Return the token at which rewards are read."""
    return config.marker if card is None else format_in(card, config.model).marker


def check_images(config: ScoringConfig, solutions: Sequence[Solution], flag: str) -> None:
    """Raise `ImageError` if an image of ``solutions``, which are the file of option ``flag``, is missing."""
    names = {name for solution in solutions for name in solution.images}
    missing = missing_images(config.image_root, names)
    refuse_missing(config.image_root, missing, f"correct --image-root or {flag}")


def checked_format(
    config: ScoringConfig, card: dict[str, Any] | None, solutions: Sequence[Solution]
) -> PromptFormat:
    """Return the prompt format in which the model will read ``solutions``, after checking the model's files.

    The tokenizer and image processor are loaded. Of weights at a URL only the headers are checked. Prints a
    note if the default marker is not a token of the model.

    Args:
        config: Options of the evaluation.
        card: Content of the model's ``bisieve.json``; None for a model that bisieve did not train.
        solutions: The benchmark, whose steps are checked for markers other than the default one.

    Raises:
        TrainingError: A part of the model is missing or damaged, or a word of the format is not one token of
            the model.
    """
    if "://" in config.model:
        check_weights(config.model, "--model")
        _check_kappa(config, card)
    own = None if card is None else format_in(card, config.model)
    backend = config.image_backend if own is None else own.image_backend
    family, processor = load_skeleton_processor(config.model, backend, "--model")
    if own is None:
        own = format_of(family, processor.tokenizer, config.max_tiles, config.system, backend)
        own = replace(own, **config.tokens._asdict())
    format = prompt_of(own, config.prompt)
    backbone = Backbone(None, processor, family)
    if card is None:
        _check_tokens(format, backbone)
    if format.marker != MARKER:
        _check_markers(format, backbone, solutions)
    return format


def _check_kappa(config: ScoringConfig, card: dict[str, Any] | None) -> None:
    """Raise `TrainingError` if the model should have a κ head and its file is missing."""
    kappa = require_kappa(card, config.model) if config.risk or "kappa" in (card or {}) else None
    if kappa and not storage.exists(join(config.model, kappa)):
        raise TrainingError(f"the κ head of the model, {kappa}", f"none at {config.model}", "copy it again")


def _check_tokens(format: PromptFormat, backbone: Backbone) -> None:
    """Check marker and reward words of a model that bisieve did not train: each must be one own token.

    Raises `TrainingError` otherwise, and prints a note if the model does not know the default marker.
    """
    tokenizer = backbone.processor.tokenizer
    if format.marker in (*backbone.family.reserved(tokenizer), tokenizer.pad_token):
        raise TrainingError(
            "a marker that means only the end of a step",
            f"{format.marker}, which stands for images or padding", "give another --marker",
        )  # fmt: skip
    words = {"--positive": format.positive, "--negative": format.negative}
    if format.marker != MARKER:
        words = {"--marker": format.marker, **words}
    ids = {flag: backbone.token_id(word, f"give another {flag}") for flag, word in words.items()}
    if ids["--positive"] == ids["--negative"]:
        raise TrainingError(
            "two tokens to compare", f"one for both {format.positive!r} and {format.negative!r}",
            "give another --positive or --negative",
        )  # fmt: skip
    if format.marker == MARKER and MARKER not in tokenizer.get_vocab():
        console.show(
            f"note: {MARKER} is not a token of this model, which was not trained to judge at it; give "
            "the model's own token with --marker"
        )


def _check_markers(format: PromptFormat, backbone: Backbone, solutions: Sequence[Solution]) -> None:
    """Raise `TrainingError` unless the tokens of each solution have one marker per step.

    A tokenizer may join a marker that is a word with neighbouring text.
    """
    marker, tokenizer = backbone.token_id(format.marker), backbone.processor.tokenizer
    for solution in solutions:
        ids = tokenizer(format.render(solution.question, solution.steps, 1))["input_ids"]
        if (found := ids.count(marker)) != len(solution.steps):
            raise TrainingError(
                f"a token {format.marker!r} behind each of the {len(solution.steps)} steps in "
                f"{solution.place} of the file", f"{found} of them",
                "give a --marker that the tokenizer never joins with its neighbours",
            )  # fmt: skip
