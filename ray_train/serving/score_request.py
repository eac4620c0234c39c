"""The body of ``POST /score``: JSON to a `Question`, and rewards to JSON.

``{"question": …, "image": …, "steps": […]}`` is one solution, as in a record of ``bisieve predict``;
``text`` is a solution that the server splits; ``candidates`` are several, each steps or a text.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec

from bisieve._text import did_you_mean
from ray_train.choices import AGGREGATES
from ray_train.evaluation.candidates import steps_of
from ray_train.evaluation.picks import pick, scores_of
from ray_train.serving.pictures import check_pixels, image_bytes
from ray_train.serving.question import MALFORMED, Question, RefusedError, Served, check_solutions

_UNKNOWN = re.compile(r"unknown field `(.*?)`")
Body = TypeVar("Body", bound=msgspec.Struct)


class ScoreBody(msgspec.Struct, forbid_unknown_fields=True):
    """What ``POST /score`` takes."""

    question: str
    image: list[str] | str | None = None  # data URLs or base64
    steps: list[str] | None = None
    text: str | None = None
    candidates: list[list[str] | str] | None = None
    split: Literal["paragraphs", "lines"] = "paragraphs"  # of texts


@dataclass(frozen=True)
class ScoreRequest:
    """A request to ``/score``."""

    asked: Question
    several: bool  # candidates: the answer has them as a list


def score_request(body: bytes, served: Served, max_pixels: int, max_steps: int) -> ScoreRequest:
    """Return the request in ``body``.

    Raises:
        RefusedError: It is malformed, too large, or cannot be scored.
    """
    given = decoded(body, ScoreBody, "/score")
    ways = {"steps": given.steps, "text": given.text, "candidates": given.candidates}
    named = [name for name, value in ways.items() if value is not None]
    if len(named) != 1:
        raise RefusedError(
            "one of steps, text and candidates", " and ".join(named) or "none", "give one of them", MALFORMED
        )
    solutions = given.candidates if given.candidates is not None else [given.steps or given.text or []]
    texts = tuple(_steps(each, given.split) for each in solutions)
    names = [given.image] if isinstance(given.image, str) else given.image or []
    asked = Question(given.question.strip(), (), texts)
    _check_blank(asked)
    check_solutions(asked, served, max_steps)
    images = tuple(map(image_bytes, names))
    check_pixels(images, max_pixels)
    return ScoreRequest(Question(asked.question, images, texts), given.candidates is not None)


def _steps(solution: Sequence[str] | str, split: str) -> tuple[str, ...]:
    """Return stripped steps; blank ones of a list remain, to be refused."""
    if isinstance(solution, str):
        return steps_of(solution, split)
    return tuple(step.strip() for step in solution)


def _check_blank(asked: Question) -> None:
    if not asked.question:
        raise RefusedError("a question", "a blank one", "give its text")
    for steps in asked.solutions:
        for number, step in enumerate(steps, start=1):
            if not step:
                raise RefusedError(f"a text as step {number}", "a blank one", "leave it out")


def score_answer(request: ScoreRequest, rewards: Sequence[Sequence[float]], name: str) -> dict[str, Any]:
    """Return the answer: rewards of the steps, and scores of the solution by aggregate.

    With candidates it has them as a list, and ``best``: the number (from 0) of the best by each aggregate.
    """
    scores = [_scores(each) for each in rewards]
    solutions = [
        {"steps": list(steps), "rewards": _plain(found), "scores": of_solution}
        for steps, found, of_solution in zip(request.asked.solutions, rewards, scores, strict=True)
    ]
    if not request.several:
        return {"model": name, **solutions[0]}
    best = {each: pick([of_solution[each] for of_solution in scores]) for each in AGGREGATES}
    return {"model": name, "candidates": solutions, "best": best}


def _scores(rewards: Sequence[float]) -> dict[str, float | None]:
    known = [reward for reward in rewards if not math.isnan(reward)]
    return {name: scores_of([known], name)[0] for name in AGGREGATES}


def _plain(rewards: Sequence[float]) -> list[float | None]:
    return [None if math.isnan(reward) else reward for reward in rewards]


def decoded(body: bytes, kind: type[Body], path: str) -> Body:
    """Return the JSON in ``body`` as ``kind``.

    Raises:
        RefusedError: It is not JSON, or has an unknown field, lacks one, or has one of a wrong type.
    """
    fields = ", ".join(kind.__struct_fields__)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        hint = f"the fields are {fields}"
        if unknown := _UNKNOWN.search(str(error)):
            hint = did_you_mean(unknown[1], kind.__struct_fields__) or hint
        raise RefusedError(f"a body of {path}", str(error), hint, MALFORMED) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RefusedError(
            f"JSON as the body of {path}", str(error), "send a JSON object", MALFORMED
        ) from error
    except RecursionError as error:
        raise RefusedError(f"a body of {path}", "JSON that is nested too deep", f"the fields are {fields}",
                      MALFORMED) from error  # fmt: skip
