"""Labels and weights of the steps of each row, computed from the index and the user's weights.

`targets_of` returns the `Targets` of a run; `Targets.of` the labels, weight and totals of one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from bisieve._text import pluralize
from bisieve.errors import TrainingError
from bisieve.index.selection import Selection
from bisieve.io.read import damage, open_retrying
from ray_train.choices import UNIFORM, column_of
from ray_train.config import TrainConfig
from ray_train.data.sampler import Rows

Floats: TypeAlias = npt.NDArray[np.float64]

PAIR = 2  # rollouts; the paper's micro-batch (App. C)

_HINT = "correct the file or --rollout-weights"


class Target(NamedTuple):
    """The training targets of one rollout's steps."""

    labels: list[float]  # one per step, in [0, 1]
    weight: float  # of each step in the loss
    totals: list[int] | None  # N of each step, 0 if unknown; None unless the objective is beta-binomial


@dataclass(frozen=True)
class Targets:
    """The targets of all rows of a selection."""

    rows: pa.Table  # of `schemas.INDEX`
    weights: Floats  # float64 [rows], of each rollout
    objective: str  # hard, soft or beta-binomial
    label_threshold: float  # objective hard: a step is positive if its MC score is above this
    loss_mean: str = "batch"  # batch or pair; see `pair_factors`

    def of(self, row: int, factor: float = 1.0) -> Target:
        """Return the target of one row.

        The labels are 0 or 1 (hard), the MC scores (soft), or K/N, 0 where N is 0 (beta-binomial).
        ``factor`` multiplies the weight of the row; it comes from `factors`.
        """
        scores = self._list("scores", row)
        weight = float(self.weights[row]) * factor
        if self.objective == "hard":
            return Target([float(score > self.label_threshold) for score in scores], weight, None)
        if self.objective == "soft":
            return Target(scores, weight, None)
        unknown = [0] * len(scores)
        right, totals = (self._list(name, row) or unknown for name in ("mc_correct", "mc_total"))
        return Target([k / max(n, 1) for k, n in zip(right, totals, strict=True)], weight, totals)

    def _list(self, name: str, row: int) -> Any:
        return self.rows[name][row].as_py()

    def factors(self, batch: Rows) -> dict[int, float]:
        """Return the factor of each row's weight in a global batch, by row.

        ``batch`` has the rows of the whole global batch in its order, int64 ``[rows of the batch]``.
        """
        if self.loss_mean == "batch":
            return dict.fromkeys(batch.tolist(), 1.0)
        return dict(zip(batch.tolist(), pair_factors(self.mass[batch]).tolist(), strict=True))

    @cached_property
    def steps(self) -> npt.NDArray[np.int64]:
        """Number of each row's steps that have a target, int64 ``[rows]``.

        That is all of them, or for beta-binomial those with N > 0.
        """
        if self.objective != "beta-binomial":
            return self.rows["num_steps"].to_numpy().astype(np.int64)  # type: ignore[no-any-return]
        totals = self.rows["mc_total"].combine_chunks()
        known = pc.list_parent_indices(totals).to_numpy()[pc.list_flatten(totals).to_numpy() > 0]
        return np.bincount(known, minlength=self.rows.num_rows)

    @cached_property
    def mass(self) -> Floats:
        """Total weight of each row's steps, float64 ``[rows]``.

        The loss of a global batch is divided by the sum over its rows.
        """
        return self.weights * self.steps


def pair_factors(mass: Floats) -> Floats:
    """Return factors of the rows' weights with which the mean loss of each pair of rows counts equally.

    A pair is two consecutive rows of the global batch, on whatever rank and in whatever pack they are, so the
    loss is the same on any number of ranks. The factors keep the total weight of the batch. Pairs of weight 0
    are no part of the mean.

    Args:
        mass: total weight of each row's steps, float64 ``[rows of the batch]``, in the batch's order.

    Returns:
        float64 ``[rows of the batch]``.
    """
    pair = np.arange(len(mass)) // PAIR
    of_pair = np.bincount(pair, mass, minlength=1)
    share = mass.sum() / max(1, np.count_nonzero(of_pair))
    return np.asarray(share / np.where(of_pair > 0, of_pair, np.inf))[pair]


def targets_of(selection: Selection, config: TrainConfig) -> Targets:
    """Return the targets of a run.

    Raises:
        TrainingError: the rollout weights are invalid, or no step has a weight above 0.
        StorageError: the user's file of weights cannot be read.
    """
    weights = rollout_weights(selection.rows, config.rollout_weights)
    targets = Targets(selection.rows, weights, config.objective, config.label_threshold, config.loss_mean)
    check_some_weight(targets)
    return targets


def check_some_weight(targets: Targets, left_out: Sequence[int] = (), held_out: Sequence[int] = ()) -> None:
    """Raise `TrainingError` if no step to train on, or no step to validate on, has a weight above 0.

    Args:
        targets: of all rows of the selection.
        left_out: rows that are not used.
        held_out: rows for validation; if there are none, only training is checked.
    """
    if held_out and not targets.mass[list(held_out)].any():
        raise TrainingError(
            "steps to validate on in the held-out part",
            "no step with a weight above 0",
            "give another --validation-fraction, or --seed",
        )
    if np.delete(targets.mass, np.array([*left_out, *held_out], np.int64)).any():
        return
    if targets.objective == "beta-binomial":
        expected = "rollouts with MC counts (mc_correct, mc_total) and a weight, for beta-binomial"
        hint = "score a corpus with num_mc_correct and num_mc_total, or train with --objective soft"
        raise TrainingError(expected, "none in the selection", hint)
    raise TrainingError(
        "rollouts with a weight above 0", "none in the selection", "give other --rollout-weights"
    )


def describe_targets(targets: Targets, weighting: str) -> str:
    """Return a line with the objective, the weighting, and the rollouts that have steps without MC counts."""
    masked = int((targets.steps < targets.rows["num_steps"].to_numpy()).sum())
    left = (
        f"; {pluralize(masked, 'rollout')} with steps without MC counts, which are ignored" if masked else ""
    )
    return f"objective: {targets.objective}, rollout weights {weighting}{left}"


def rollout_weights(rows: pa.Table, choice: str) -> Floats:
    """Return the weight of each rollout, float64 ``[rows]``, scaled to a mean of 1.

    Args:
        rows: of `schemas.INDEX`.
        choice: value of ``--rollout-weights``: ``uniform``, a column of the index, or ``URL.parquet:COLUMN``.

    Raises:
        TrainingError: a weight is missing, below 0 or not finite; all are 0; or the user's file is no Parquet
            file, lacks a column, or has several weights for one rollout.
        StorageError: the user's file cannot be read.
    """
    if choice == UNIFORM:
        return np.ones(rows.num_rows)
    if (place := column_of(choice)) is None:
        values = _valid(f"column {choice} of the index", rows["rollout_id"], rows[choice])
    else:
        values = _looked_up(rows["rollout_id"], *place)
    if not values.any():
        raise TrainingError(f"a weight above 0 by {choice}", "none in the selection", _HINT)
    values = values / values.max()  # so that the sum cannot overflow
    return np.asarray(values * (len(values) / values.sum()))


def weights_name(weights: Floats, choice: str) -> str:
    """Return what identifies the weights of a run: ``choice``, or for a user's file a hash of the weights.

    So the same weights at another URL count as the same run, and other weights as another run.
    """
    named = column_of(choice) is None
    return choice if named else xxhash.xxh3_128_hexdigest(np.ascontiguousarray(weights, "<f8").tobytes())


def _looked_up(ids: pa.ChunkedArray, url: str, column: str) -> Floats:
    """Return the weight of each of ``ids`` in the user's file, float64 ``[ids]``."""
    table = _read(url, column)
    _valid(url, table["rollout_id"], table["weight"])
    same = table.group_by("rollout_id").aggregate([("weight", "min"), ("weight", "max")])
    several = same["rollout_id"].filter(pc.not_equal(same["weight_min"], same["weight_max"])).to_pylist()
    if several:
        found = f"several for {len(several):,}, such as {several[0]}"
        raise TrainingError(f"one weight a rollout in {url}", found, _HINT)
    places = pc.index_in(ids, value_set=same["rollout_id"].combine_chunks())
    missing = ids.filter(places.is_null()).to_pylist()
    if missing:
        found = f"none for {len(missing):,}, such as {missing[0]}"
        raise TrainingError(f"a weight in {url} for every rollout of the selection", found, _HINT)
    return same["weight_min"].take(places).to_numpy()  # type: ignore[no-any-return]


def _read(url: str, column: str) -> pa.Table:
    with open_retrying(url) as handle, damage(TrainingError, f"a Parquet file at {url}", _HINT):
        file = pq.ParquetFile(handle, pre_buffer=False)
        for name in ("rollout_id", column):
            if name not in (names := file.schema_arrow.names):
                raise TrainingError(f"a column {name} in {url}", f"only {', '.join(names)}", _HINT)
        kind = file.schema_arrow.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise TrainingError(f"numbers in column {column} of {url}", f"{kind}", _HINT)
        # Each column is read alone: the weights' column may itself be rollout_id.
        ids, weights = (file.read(columns=[name])[name] for name in ("rollout_id", column))
        return pa.table({"rollout_id": ids.cast(pa.string()), "weight": weights.cast(pa.float64())})


def _valid(where: str, ids: pa.ChunkedArray, weights: pa.ChunkedArray) -> Floats:
    """Return ``weights`` as float64; raise `TrainingError` if one is missing, below 0 or not finite."""
    values: Floats = pc.fill_null(weights.cast(pa.float64()), np.nan).to_numpy()
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = int(bad.argmax())
        found = f"{int(bad.sum())} that are not, such as {values[first]:g} of rollout {ids[first]}"
        raise TrainingError(f"finite weights of 0 or more in {where}", found, _HINT)
    return values
