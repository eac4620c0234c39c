"""List the trials of a sweep before it runs: what each costs, and which of them are finished."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bisieve._text import Report, Table, percent, pluralize, rounded
from ray_train.sweeps.grid import Trial
from ray_train.sweeps.results import Finished, Pace, in_words, pace_of, passes
from ray_train.sweeps.sizes import Sizes


@dataclass(frozen=True)
class SweepPlan:
    """The trials of a sweep, in the order in which they run."""

    trials: Sequence[Trial]
    finished: Sequence[Finished]
    sizes: Sizes

    @property
    def left(self) -> list[Trial]:
        """Return the trials that are not finished."""
        done = {each.trial.id for each in self.finished}
        return [trial for trial in self.trials if trial.id not in done]

    @property
    def pace(self) -> Pace | None:
        """Return the pace of the finished trials; None if there are none."""
        return pace_of(self.finished)

    def numbers(self) -> dict[str, Any]:
        """Return the plan as a JSON document; times are of one process, None before a trial is finished."""
        pace, left = self.pace, self.left
        to_make = {trial.id for trial in left}
        planned = []
        for trial in self.trials:
            rollouts, steps = self.sizes.trained(trial.train)
            planned.append({
                "id": trial.id, **trial.axes, "epochs": trial.train.epochs, "rollouts": rollouts,
                "optimizer_steps": steps, "finished": trial.id not in to_make,
                "seconds": pace and pace.of(trial),
            })  # fmt: skip
        return {
            "trials": planned,
            "to_make": len(left),
            "available": self.sizes.total,
            "epochs_of_all": sum(map(passes, left)),
            "seconds_left": pace and sum(map(pace.of, left)),
        }

    def report(self) -> Report:
        """Return the trials by line and fraction, and their cost, as text."""
        pace, left = self.pace, self.left
        to_make = {trial.id for trial in left}
        groups: dict[tuple[str, str, str, float], list[Trial]] = {}
        for trial in self.trials:
            key = (trial.strategy, trial.alpha, trial.objective, trial.fraction)
            groups.setdefault(key, []).append(trial)
        rows = []
        for (strategy, alpha, objective, fraction), group in groups.items():
            of_group = [trial for trial in group if trial.id in to_make]
            rollouts, steps = self.sizes.trained(group[0].train)
            rows.append((
                f"{strategy} α {alpha}" if alpha else strategy, objective, percent(fraction),
                ",".join(str(trial.seed) for trial in group), str(len(group) - len(of_group)),
                f"{rollouts:,}", f"{steps:,}",
                in_words(sum(map(pace.of, of_group))) if pace else "unknown",
            ))  # fmt: skip
        head = ("selection", "objective", "fraction", "seeds", "done", "rollouts", "steps", "time left")
        cost = (
            f"about {in_words(sum(map(pace.of, left)))} of one process, as the finished ones took"
            if pace
            else "time unknown before one is finished; bisieve train --dry-run computes it on GPUs"
        )
        return Report(
            Table(head, rows),
            f"{pluralize(len(self.trials), 'trial')}, {len(left):,} to make: as much training as "
            f"{rounded(sum(map(passes, left)))} epochs of all {pluralize(self.sizes.total, 'rollout')}, and "
            f"{pluralize(len(left), 'evaluation')}; "
            f"{cost}",
            "dry run: nothing was written",
        )
