"""Pick the best of N candidate responses with a process reward model, and measure the accuracy of the pick.

    candidates ──read──▶ questions ──scored as in an evaluation──▶ rewards ──▶ best-of.json, picks.jsonl

All responses of a question are scored one after another, so that they share the computation of their prompt.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from bisieve import console
from bisieve._text import pluralize
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.choices import AGGREGATES
from ray_train.config_io import located
from ray_train.evaluation.candidates import Question, read_candidates, solutions_of
from ray_train.evaluation.config import BestOfConfig
from ray_train.evaluation.picks import accuracies, pick, scores_of, summary, table
from ray_train.evaluation.preflight import check_images, checked_format, checked_model, marker_of
from ray_train.evaluation.scoring import Unfinished, digest, score_solutions, scoring_identity
from ray_train.registry.files import BEST_OF

PICKS = "picks.jsonl"

Rewards = list[list[list[float]]]  # by question, response and step


def best_of(config: BestOfConfig) -> dict[str, Any]:
    """Pick the best response to each question and measure how often it is right.

    Writes ``best-of.json`` and ``picks.jsonl`` to ``config.output`` and prints a table. A scoring that was
    stopped continues, if nothing has changed that its rewards depend on.

    Returns:
        The content of ``best-of.json``.

    Raises:
        BisieveError: The user must change something, such as an option or a file. Most checks are made
            before Ray starts.
    """
    config.check()
    config = located(config)
    card = checked_model(config)
    questions = read_candidates(
        config.candidates, config.split, config.answer_pattern, marker_of(config, card)
    )
    solutions = solutions_of(questions)
    check_images(config, solutions, "--candidates")
    checked_format(config, card, solutions)
    responses = sum(len(each.responses) for each in questions)
    console.status(f"model: {config.model}")
    size = f"{pluralize(len(questions), 'question')}, {pluralize(responses, 'response')}"
    console.status(f"candidates: {size}")
    unfinished = Unfinished(config.output, scoring_identity(config, solutions, card))
    scored = score_solutions(config, solutions, unfinished)
    rewards = by_question(questions, scored)
    numbers = {
        "model": config.model,
        "run": card and card["run"],
        "index": card and card["identity"]["index"],
        "candidates": config.candidates,
        "candidates_sha256": digest(questions),
        "prompt": config.prompt,
        "risk": config.risk,
        "aggregate": config.aggregate,
        "seed": config.seed,
        "confidence": config.confidence,
        "responses": responses,
        "unscored_responses": sum(
            len(steps) > len(found)
            for each, of_responses in zip(questions, rewards, strict=True)
            for steps, found in zip(each.responses, of_responses, strict=True)
        ),
        **measured_picks(questions, rewards, config.seed, config.confidence),
    }
    lines = msgspec.json.Encoder().encode_lines(list(pick_lines(questions, rewards, config.aggregate)))
    storage.write_bytes(join(config.output, PICKS), lines)
    document = msgspec.json.format(msgspec.json.encode(numbers), indent=2)
    storage.write_bytes(join(config.output, BEST_OF), document + b"\n")
    unfinished.remove()
    console.show(table(numbers))
    if numbers["unscored_responses"]:
        few = pluralize(numbers["unscored_responses"], "response")
        console.show(f"not scored to the end: {few}, too long or with a token of the prompt in the text")
    console.show(f"report: {join(config.output, BEST_OF)}")
    return numbers


def by_question(questions: Sequence[Question], scored: Sequence[list[float]]) -> Rewards:
    """Return the rewards of each response of each question; none for a response without steps.

    Args:
        questions: The questions.
        scored: The rewards of the `candidates.solutions_of` ``questions``, in their order.
    """
    left = iter(scored)
    return [[next(left) if steps else [] for steps in each.responses] for each in questions]


def measured_picks(
    questions: Sequence[Question], rewards: Rewards, seed: int, confidence: float
) -> dict[str, Any]:
    """Return the numbers of questions and responses, and the accuracy of all methods, by source, too."""
    found, keys = accuracies(questions, rewards), [each.key for each in questions]
    sources = {}
    for source in sorted({each.source for each in questions}):
        places = [n for n, each in enumerate(questions) if each.source == source]
        part = {name: values[places] for name, values in found.items()}
        methods = summary(part, [keys[n] for n in places], seed, confidence)
        sources[source] = {"questions": len(places), "methods": methods}
    return {
        "questions": len(questions),
        "most_responses": max(len(each.responses) for each in questions),
        "methods": summary(found, keys, seed, confidence),
        "sources": sources,
    }


def pick_lines(questions: Sequence[Question], rewards: Rewards, aggregate: str) -> Iterator[dict[str, Any]]:
    """Yield a line of ``picks.jsonl`` for each question; ``pick`` is a number of a response, from 0."""
    for each, of_responses in zip(questions, rewards, strict=True):
        scores = {name: scores_of(of_responses, name) for name in AGGREGATES}
        yield {
            "line": each.line,
            "data_source": each.source,
            "image": each.images,
            "question": each.question,
            "answer": each.answer,
            "pick": pick(scores[aggregate]),
            "responses": [
                {
                    "steps": steps,
                    "rewards": of_response,
                    "scores": {name: values[number] for name, values in scores.items()},
                    "answer": each.answers[number],
                    "correct": each.correct[number],
                }
                for number, (steps, of_response) in enumerate(zip(each.responses, of_responses, strict=True))
            ],
        }
