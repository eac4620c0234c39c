"""Score solutions with Ray Data or by a vLLM server; the same command continues a scoring that was stopped.

solutions ──without rewards, by prompt──┬─▶ Ray Data, one model per worker ─┬──▶ rewards, kept as they come
                                        └─▶ `StepClient`, a vLLM server ────┘

    OUTPUT/unfinished.json         the model, the file and the options that the rewards belong to
    OUTPUT/unfinished-00000.jsonl  rewards of some solutions, by line of the file
    …

These parts (`Unfinished`) are written from time to time, and when the scoring fails or is stopped. All are
removed once the results are written.
"""

import hashlib
import math
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import fields
from typing import Any

import msgspec

from bisieve import console
from bisieve._redact import without_secrets
from bisieve._text import pluralize
from bisieve.errors import BisieveError, TrainingError
from bisieve.io import storage
from bisieve.io.urls import join
from ray_train.cluster import cluster, silenced_core, unwrapped, uses_gpus
from ray_train.data.images import picture_notes
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.candidates import Question
from ray_train.evaluation.config import ScoringConfig
from ray_train.evaluation.rewards import check_finite
from ray_train.model.files import known_as

Row = tuple[int, list[float]]  # line and rewards
# Options that do not change a reward: where the results are and how the work is divided.
_NOT_OF_REWARDS = ("model", "output", "workers", "device", "batch", "server")
_ASKED = 256  # solutions between two lines of progress, where a server scores
EVERY = 30.0  # seconds of scoring that a kill can lose
IDENTITY, PART = "unfinished.json", "unfinished-"


class Unfinished:
    """The rewards of the solutions that have been scored so far.

    Args:
        output: URL of the folder of the results.
        identity: What the rewards depend on, by name; values that JSON can hold.

    Raises:
        TrainingError: The folder has unfinished rewards of another model, file or option.
        StorageError: It cannot be read.
    """

    def __init__(self, output: str, identity: Mapping[str, Any]) -> None:
        self._output = output
        self._identity = dict(identity)
        self._new: list[Row] = []
        self._saved = time.monotonic()
        self._parts: list[str] = []
        self.rewards: dict[int, list[float]] = {}  # by line
        if storage.exists(join(output, IDENTITY)):
            self._read()

    def _read(self) -> None:
        kept = msgspec.json.decode(storage.read_bytes(join(self._output, IDENTITY)))
        for name, value in self._identity.items():
            if kept.get(name) != value:
                expected, found = f"{name} {value}", f"{name} {kept.get(name)}"
                if name == "solutions":  # digests tell a reader nothing
                    expected, found = "these solutions", "those of others"
                raise TrainingError(
                    f"unfinished scores of {expected} in {self._output}, to continue them",
                    found,
                    f"give another --output, or delete {IDENTITY} there to begin again",
                )
        self._parts = sorted(name for name in storage.file_names(self._output) if name.startswith(PART))
        decoder = msgspec.json.Decoder(Row)
        for name in self._parts:
            self.rewards |= dict(decoder.decode_lines(storage.read_bytes(join(self._output, name))))

    def add(self, line: int, rewards: list[float]) -> None:
        """Add the rewards of one solution; write a part if the last one is `EVERY` seconds old.

        Rewards that are not numbers, of a broken model, are not kept.
        """
        self.rewards[line] = rewards
        if all(map(math.isfinite, rewards)):
            self._new.append((line, rewards))
        if time.monotonic() - self._saved >= EVERY:
            self.save()

    def save(self) -> None:
        """Write the rewards that are in no part yet."""
        if self._new:
            if not self._parts:
                # Parts of a scoring that the user has given up by deleting its identity.
                storage.remove([join(self._output, name) for name in self._left_over()])
                identity = msgspec.json.encode(self._identity)
                storage.write_bytes(join(self._output, IDENTITY), identity)
            name = f"{PART}{len(self._parts):05d}.jsonl"
            storage.write_bytes(join(self._output, name), msgspec.json.Encoder().encode_lines(self._new))
            self._parts.append(name)
            self._new = []
        self._saved = time.monotonic()

    def _left_over(self) -> list[str]:
        there = storage.exists(self._output)
        return [name for name in storage.file_names(self._output) if name.startswith(PART)] if there else []

    def remove(self) -> None:
        """Remove what was written, after the results have been."""
        if self._parts:
            storage.remove([join(self._output, name) for name in (IDENTITY, *self._parts)])


def digest(records: Sequence[Solution | Question]) -> str:
    """Return the SHA-256 of the records of a file, which does not depend on its URL or compression.

    Returns:
        64 hexadecimal digits.
    """
    return hashlib.sha256(msgspec.json.encode(records)).hexdigest()


def scoring_identity(
    config: ScoringConfig, solutions: Sequence[Solution], card: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what the rewards depend on: the model's files and run, the solutions, and the options."""
    names = [item.name for item in fields(ScoringConfig) if item.name not in _NOT_OF_REWARDS]
    return {
        "model": known_as(config.model),
        "run": card and card["run"],
        "solutions": digest(solutions),
        **{name: getattr(config, name) for name in names},
        **({"server": True} if config.server else {}),  # it may compute in another precision
    }


def score_solutions(
    config: ScoringConfig, solutions: Sequence[Solution], unfinished: Unfinished
) -> list[list[float]]:
    """Score all solutions with ``config.workers`` copies of the model, or by the server of ``config``.

    Shows progress, notes about images, and retries of the workers.

    Args:
        config: Options of the scoring.
        solutions: The solutions, each with a line of its own.
        unfinished: The rewards known already; it gets the others.

    Returns:
        The rewards of each solution, in the order of ``solutions``: one per step, fewer if trailing steps
        exceed the length limit, none if the solution was skipped.

    Raises:
        BisieveError: A solution cannot be scored, a reward is not finite, or a worker was lost.
    """
    left = by_prompt([each for each in solutions if each.line not in unfinished.rewards])
    if known := len(solutions) - len(left):
        console.status(f"continuing: {known:,} of {pluralize(len(solutions), 'solution')} were scored before")
    try:
        if left:
            for line, rewards in _by_server(config, left) if config.server else _scored(config, left):
                unfinished.add(line, rewards)
    except BaseException as error:
        with suppress(BisieveError):  # the store's; the first error is the one to report
            unfinished.save()
        if isinstance(error, KeyboardInterrupt) and unfinished.rewards:
            kept = f"{len(unfinished.rewards):,} of {pluralize(len(solutions), 'solution')}"
            error.add_note(f"the scores of {kept} are kept: the same command continues")
        raise
    found = [unfinished.rewards[solution.line] for solution in solutions]
    check_finite(found)
    return found


def by_prompt(solutions: Sequence[Solution]) -> list[Solution]:
    """Return the solutions in their order, but with all of a question after its first one."""
    first: dict[str, int] = {}
    for number, solution in enumerate(solutions):
        first.setdefault(solution.question_key, number)
    return sorted(solutions, key=lambda solution: first[solution.question_key])


def _scored(config: ScoringConfig, solutions: Sequence[Solution]) -> Iterator[tuple[int, list[float]]]:
    """Yield the line and the rewards of each solution as they come; the first error is raised at the end."""
    with cluster(config.workers) as ray, _shown_board(len(solutions)) as board:
        from ray_train.evaluation.scorer import ScoreBatches

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # Blocks are made here, not in Ray tasks: if the models take all CPUs, tasks would wait forever.
        rows = [{"solution": msgspec.json.encode(solution)} for solution in solutions]
        data = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // config.batch))
        scored = data.map_batches(
            ScoreBatches,
            batch_size=config.batch,
            compute=ray.data.ActorPoolStrategy(size=config.workers),
            num_cpus=1,
            num_gpus=int(uses_gpus(ray, config.device, config.workers)),
            fn_constructor_kwargs={
                "image_root": config.image_root,
                "board": board,
                "model": config.model,
                "max_length": config.max_length,
                "max_tiles": config.max_tiles,
                "risk": config.risk,
                "image_backend": config.image_backend,
                "system": config.system,
                "tokens": config.tokens,
                "prompt": config.prompt,
            },
        )
        console.phase(f"starting {pluralize(config.workers, 'worker')}, which load the model")
        failure: BisieveError | None = None
        transparent = unclear = 0
        try:
            with silenced_core():
                for row in scored.iter_rows():
                    error = pickle.loads(row["error"])
                    failure = failure or error
                    transparent, unclear = transparent + row["transparent"], unclear + row["unclear"]
                    if error is None:
                        yield row["line"], [float(reward) for reward in row["rewards"]]
        except Exception as error:  # Ray raises various types for a lost worker or node
            raise unwrapped(error, "the evaluation to reach its end", "run it again") from error
    if failure is not None:
        raise failure
    for note in picture_notes(transparent, unclear):
        console.show(note)


def _shown_board(solutions: int) -> AbstractContextManager[Any]:
    from ray_train.distributed.heartbeat import shown_board  # imports Ray

    return shown_board("scoring", solutions, lines=True)


def _by_server(config: ScoringConfig, solutions: Sequence[Solution]) -> Iterator[tuple[int, list[float]]]:
    """Yield the line and the rewards of each solution, which a vLLM server computes; no Ray is started."""
    from ray_train.evaluation.step_client import StepClient

    client = StepClient(config.server, config.model, config.max_length, workers=config.batch)
    console.status(f"asking the server at {without_secrets(config.server)}")
    for start in range(0, len(solutions), _ASKED):
        part = solutions[start : start + _ASKED]
        for solution, rewards in zip(part, client.score_solutions(part, config.image_root), strict=True):
            yield solution.line, rewards
        if start + len(part) < len(solutions):
            console.status(f"scored {start + len(part):,} of {pluralize(len(solutions), 'solution')}")
    for note in picture_notes(client.counts["transparent"], client.counts["unclear"]):
        console.show(note)
