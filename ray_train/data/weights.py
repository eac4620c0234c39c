"""How much each rollout of a cut weighs in the loss: alike, by its score, or as the user says."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from bisieve.damage import damage
from bisieve.errors import TrainingError, UsageError
from bisieve.whole import open_whole

Floats: TypeAlias = npt.NDArray[np.float64]

UNIFORM, BY_INDEX = "uniform", ("bis", "reliability")  # columns of the index
_PARQUET = ".parquet"
_MEND = "correct the file or --rollout-weights"


def column_of(choice: str) -> tuple[str, str] | None:
    """The URL and column of a choice that names a Parquet file, None for one of ours; else `UsageError`."""
    if choice in (UNIFORM, *BY_INDEX):
        return None
    url, found, column = choice.rpartition(_PARQUET + ":")
    if not (url and found and column):
        names = ", ".join((UNIFORM, *BY_INDEX))
        raise UsageError(
            f"{names} or URL{_PARQUET}:COLUMN for --rollout-weights", repr(choice), "give one of these"
        )
    return url + _PARQUET, column


def rollout_weights(rows: pa.Table, choice: str) -> Floats:
    """The weights of ``rows`` (of `schema.INDEX`), float64 ``[rows]``, scaled to a mean of 1.

    `TrainingError` where one is missing, below 0 or not finite, where all are 0, and where the user's file is
    not what it should be; `StorageError` where it cannot be read.
    """
    if choice == UNIFORM:
        return np.ones(rows.num_rows)
    if (place := column_of(choice)) is None:
        values = _valid(f"column {choice} of the index", rows["rollout_id"], rows[choice])
    else:
        values = _looked_up(rows["rollout_id"], *place)
    if not values.any():
        raise TrainingError(f"a weight above 0 by {choice}", "none in the cut", _MEND)
    values = values / values.max()  # which have a finite sum
    return np.asarray(values * (len(values) / values.sum()))


def weights_name(weights: Floats, choice: str) -> str:
    """Names weights, wherever a user's file lies: two runs with another one learn something else."""
    named = column_of(choice) is None
    return choice if named else xxhash.xxh3_128_hexdigest(np.ascontiguousarray(weights, "<f8").tobytes())


def _looked_up(ids: pa.ChunkedArray, url: str, column: str) -> Floats:
    """The weight of each of ``ids`` in the user's file."""
    table = _read(url, column)
    _valid(url, table["rollout_id"], table["weight"])
    same = table.group_by("rollout_id").aggregate([("weight", "min"), ("weight", "max")])
    several = same["rollout_id"].filter(pc.not_equal(same["weight_min"], same["weight_max"])).to_pylist()
    if several:
        found = f"several for {len(several)}, such as {several[0]}"
        raise TrainingError(f"one weight a rollout in {url}", found, _MEND)
    places = pc.index_in(ids, value_set=same["rollout_id"].combine_chunks())
    missing = ids.filter(places.is_null()).to_pylist()
    if missing:
        found = f"none for {len(missing)}, such as {missing[0]}"
        raise TrainingError(f"a weight for every rollout of the cut in {url}", found, _MEND)
    return same["weight_min"].take(places).to_numpy()  # type: ignore[no-any-return]


def _read(url: str, column: str) -> pa.Table:
    with open_whole(url) as handle, damage(TrainingError, f"a Parquet file at {url}", _MEND):
        file = pq.ParquetFile(handle)
        for name in ("rollout_id", column):
            if name not in (names := file.schema_arrow.names):
                raise TrainingError(f"a column {name} in {url}", f"only {', '.join(names)}", _MEND)
        kind = file.schema_arrow.field(column).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise TrainingError(f"numbers in column {column} of {url}", f"{kind}", _MEND)
        # Each column by itself: that of the weights may be called rollout_id, too.
        ids, weights = (file.read(columns=[name])[name] for name in ("rollout_id", column))
        return pa.table({"rollout_id": ids.cast(pa.string()), "weight": weights.cast(pa.float64())})


def _valid(where: str, ids: pa.ChunkedArray, weights: pa.ChunkedArray) -> Floats:
    """``weights`` as float64; `TrainingError` that names one which is missing, below 0 or not finite."""
    values: Floats = pc.fill_null(weights.cast(pa.float64()), np.nan).to_numpy()
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        first = int(bad.argmax())
        found = f"{int(bad.sum())} that are not, such as {values[first]:g} of rollout {ids[first]}"
        raise TrainingError(f"finite weights of 0 or more in {where}", found, _MEND)
    return values
