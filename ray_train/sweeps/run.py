"""Run a sweep: check, make the trials that are not finished, and say which selection is enough.

config ──checks──▶ trials ──those not finished──▶ Ray Tune ──▶ results ──▶ table, plot, answer
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from bisieve import console
from bisieve._text import Report, pluralize
from bisieve.errors import PreemptedError, TrainingError
from bisieve.index.versions import open_version
from bisieve.io import storage
from bisieve.io.storage import require_writable
from bisieve.io.urls import join
from ray_train.checkpoints.lease import leased
from ray_train.choices import AS_INDEX
from ray_train.cluster import check_device, cluster
from ray_train.config_io import located, parameters
from ray_train.evaluation.benchmark import read_benchmark
from ray_train.evaluation.preflight import check_images, check_judged
from ray_train.evaluation.scoring import digest
from ray_train.model.files import check_weights
from ray_train.model.metadata import check_model
from ray_train.sweeps.answer import Answer, Cell, answers, with_warnings
from ray_train.sweeps.config import SweepConfig
from ray_train.sweeps.grid import Trial, trials
from ray_train.sweeps.plan import SweepPlan
from ray_train.sweeps.report import plot, report, sentences
from ray_train.sweeps.results import (
    ANSWER,
    AUC,
    PLOT,
    ROWS,
    Finished,
    by_position,
    cells_of,
    in_words,
    pace_of,
    read_finished,
    write_rows,
)
from ray_train.sweeps.sizes import Sizes, check_counts, sizes_of


@dataclass(frozen=True)
class SweepResult:
    """What a sweep found."""

    config: SweepConfig
    trials: int  # of the sweep, finished or not
    cells: list[Cell]
    answers: list[Answer]
    position: float | None = None  # the metric of the position of a step alone, if it is defined

    def report(self) -> Report:
        """Return the table and the answer as text."""
        return report(self.config, self.cells, self.answers, self.position)

    def numbers(self) -> dict[str, Any]:
        """Return the content of ``sweep.json``."""
        return {
            "config": parameters(self.config),
            "trials": self.trials,
            "finished": sum(len(cell.values) for cell in self.cells),
            "metric": self.config.metric,
            "by_position_alone": self.position,
            "cells": [
                {
                    "strategy": cell.strategy, "alpha": cell.alpha, "objective": cell.objective,
                    "fraction": cell.fraction, "rollouts": cell.rollouts, "values": list(cell.values),
                }
                for cell in self.cells
            ],
            "answers": [
                {**each.numbers(), "sentences": sentences(each, self.config, named=False)}
                for each in self.answers
            ],
        }  # fmt: skip


def sweep(config: SweepConfig) -> SweepResult | None:
    """Make all trials that are not finished, then report on all that are; print the progress and the report.

    With ``config.dry_run`` only print the trials and what they cost.

    Returns:
        What the finished trials say; None for a dry run, or if none is finished.

    Raises:
        BisieveError: The user must change something, or a trial has failed. Finished trials are kept.
    """
    if config.dry_run:
        console.show(planned(config).report())
        return None
    config.check()
    config = located(config)
    require_writable(config.output)
    grid, sizes = _checked(config)
    check_weights(config.backbone, "--backbone")
    try:
        with leased(config.output, console.show):
            failed = _make(config, grid)
            result = _conclude(config, grid, sizes)
    except PreemptedError as error:
        again = "run the same command again: finished trials are kept"
        raise type(error)("the sweep to reach its end", error.args[1], again) from None
    if failed is not None:
        raise failed
    return result


def planned(config: SweepConfig) -> SweepPlan:
    """Return the trials of a sweep and what they cost, after all checks but that of the output.

    Raises:
        BisieveError: The user must change something.
    """
    config.check()
    config = located(config)
    grid, sizes = _checked(config)
    return SweepPlan(grid, read_finished(config.output, grid), sizes)


def _checked(config: SweepConfig) -> tuple[list[Trial], Sizes]:
    """Check what the trials need, without Ray; return them, and the sizes of their selections."""
    strategy, objective, fraction = config.strategies[0], config.objectives[0], config.fractions[0]
    example = config.train_config(strategy, AS_INDEX, objective, fraction, 0)
    check_device(example.device, example.workers.least)
    check_model(config.backbone, "--backbone")
    index = open_version(config.index, config.index_version or None)
    solutions = read_benchmark(config.benchmark)
    evaluation = config.evaluate_config(example)
    check_judged(evaluation, solutions)
    check_images(evaluation, solutions, "--benchmark")
    grid = trials(config, index, digest(solutions))
    check_counts(index, grid)
    return grid, sizes_of(index, grid[0].train.exclude)


def _make(config: SweepConfig, grid: Sequence[Trial]) -> TrainingError | None:
    """Make the trials that are not finished; return the error to end with, if some have failed."""
    finished = read_finished(config.output, grid)
    done = {each.trial.id for each in finished}
    todo = [trial for trial in grid if trial.id not in done]
    known = f", {len(done):,} of them finished before" if done else ""
    console.status(f"sweep: {pluralize(len(grid), 'trial')}{known}")
    if not todo:
        return None
    workers = todo[0].train.workers.least
    with cluster(workers * max(1, config.trials_at_once)) as ray:
        from ray_train.sweeps.tuning import remove_running, run_trials

        shown = Shown(config.metric, list(finished), todo)
        try:
            outcome = run_trials(config, ray, todo, finished, shown)
        except KeyboardInterrupt as interrupt:
            kept = f"{shown.ended:,} of {len(grid):,} trials"
            interrupt.add_note(f"{kept} are kept: the same command continues")
            raise
        if workers > 1:
            remove_running(config.output)
    if outcome.left:
        console.show(
            f"{pluralize(outcome.left, 'trial')} left for want of time (--max-hours {config.max_hours:g}): "
            "the same command continues"
        )
    if not outcome.failed:
        return None
    name = next(trial.name for trial in todo if trial.name in outcome.failed)
    error = outcome.failed[name]
    expected, found, hint = error.args
    others = len(outcome.failed) - 1
    more = f" (and {pluralize(others, 'other trial')} failed)" if others else ""
    return TrainingError(f"trial {name}: {expected}", f"{found}{more}", hint)


class Shown:
    """Prints a line for each trial that ends, and before the first one for each that has begun."""

    def __init__(self, metric: str, finished: list[Finished], todo: Sequence[Trial]) -> None:
        self._metric, self._finished = metric, finished
        self._todo = {trial.id: trial for trial in todo}
        self._total = len(finished) + len(todo)
        self._has_ended = False  # a trial of this run

    def begun(self, trial: Trial) -> None:
        """Show that a trial has begun, so that something is seen before the first one ends."""
        if not self._has_ended:
            console.phase(f"training and evaluating {trial.name}")

    @property
    def ended(self) -> int:
        """Return the number of finished trials."""
        return len(self._finished)

    def __call__(self, finished: Finished, at_once: int) -> None:
        """Show a finished trial, and how long the others will take, of which ``at_once`` run at a time."""
        self._finished.append(finished)
        self._has_ended = True
        del self._todo[finished.trial.id]
        value = finished.result[self._metric]
        shown = "none" if value is None else f"{value:.4f}"
        console.status(
            f"trial {self.ended:,} of {self._total:,}  {finished.trial.name}: {self._metric} {shown}, "
            f"{in_words(finished.seconds)}{self._left(at_once)}"
        )

    def _left(self, at_once: int) -> str:
        pace = pace_of(self._finished)
        seconds = sum(pace.of(trial) for trial in self._todo.values()) if pace else 0.0
        return f"; about {in_words(seconds / at_once)} left" if self._todo else ""


def _conclude(config: SweepConfig, grid: Sequence[Trial], sizes: Sizes) -> SweepResult | None:
    finished = read_finished(config.output, grid)
    available = sizes.selected(grid[0].train, 1.0)
    write_rows(config.output, finished, available)
    cells = cells_of(finished, config.metric)
    if not cells:
        console.show(f"no trial has a value of {config.metric} yet")
        return None
    found = answers(cells, available, config.delta, config.confidence)
    by_auc = (
        found
        if config.metric == AUC
        else answers(cells_of(finished, AUC), available, config.delta, config.confidence)
    )
    found = with_warnings(found, by_auc, by_position(finished, AUC))
    result = SweepResult(config, len(grid), cells, found, by_position(finished, config.metric))
    for name, document in ((ANSWER, result.numbers()), (PLOT, plot(config, cells, found))):
        encoded = msgspec.json.format(msgspec.json.encode(document), indent=1)
        storage.write_bytes(join(config.output, name), encoded)
    if len(finished) < len(grid):
        console.show(f"of {len(finished):,} of {pluralize(len(grid), 'trial')}:")
    console.show(result.report())
    console.show(f"results: {join(config.output, ROWS)}, plot: {join(config.output, PLOT)}")
    return result
