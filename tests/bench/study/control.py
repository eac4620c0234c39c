"""The control of the study: random mixed rollouts, as many and with as many negative steps as BIS selects.

Where it is as good as BIS, what BIS selects by is of no use beyond mixture and labels; where it is worse,
reliability, or which of the mixed rollouts are selected, matters.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

import bisieve
from bisieve.io.storage import read_bytes

_CLOSE = 0.002  # difference of the share of negative steps at which the search ends
_SWAPS = 20_000


def control_rows(selected: pa.Table, rows: pa.Table, seed: int) -> "np.ndarray":
    """Return the numbers of the control's rows, sorted.

    Each source has as many mixed, all-positive and all-negative rollouts as in the selection, at random. Then
    random swaps of mixed rollouts of a source bring the share of negative steps to that of the selection.

    Args:
        selected: The selection, rows of an index.
        rows: All rows of the index.
        seed: Of the random choice.
    """
    rng = np.random.default_rng(seed)
    kinds, wanted = kinds_of(rows), kinds_of(selected)
    chosen = np.zeros(rows.num_rows, bool)
    for kind in sorted(set(wanted)):
        of_kind = np.flatnonzero(kinds == kind)
        chosen[rng.choice(of_kind, int((wanted == kind).sum()), replace=False)] = True
    steps, positive = (rows[name].to_numpy() for name in ("num_steps", "num_positive"))
    target = 1 - selected["num_positive"].to_numpy().sum() / selected["num_steps"].to_numpy().sum()
    mixed = np.array([kind.endswith("mixed") for kind in kinds])

    def distance() -> float:
        return float(abs(1 - positive[chosen].sum() / steps[chosen].sum() - target))

    now = distance()
    for _ in range(_SWAPS):
        inside, outside = np.flatnonzero(mixed & chosen), np.flatnonzero(mixed & ~chosen)
        if now < _CLOSE or not len(inside) or not len(outside):
            break
        one, other = rng.choice(inside), rng.choice(outside)
        if kinds[one] != kinds[other]:
            continue
        chosen[[one, other]] = False, True
        if (then := distance()) < now:
            now = then
        else:
            chosen[[one, other]] = True, False
    return np.flatnonzero(chosen)


def kinds_of(rows: pa.Table) -> "np.ndarray":
    """Return source and kind of each row: mixed, positive or negative."""
    steps, positive = (rows[name].to_numpy() for name in ("num_steps", "num_positive"))
    kind = np.where(positive == 0, "negative", np.where(positive == steps, "positive", "mixed"))
    return np.char.add(np.char.add(np.array(rows["source"].to_pylist(), str), " "), kind)


def write_control(index: bisieve.Index, fraction: float, alpha: float, seed: int, folder: Path) -> str:
    """Write the control of BIS as shards and an index; return the index's URL."""
    rows = index.select(1.0).table
    chosen = rows.take(control_rows(index.select(fraction, alpha=alpha).table, rows, seed))
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    lines: dict[str, list[bytes]] = {}
    for source, line in lines_of(chosen):
        lines.setdefault(source, []).append(line)
    for source, of_source in lines.items():
        (folder / "annotations" / f"{source}.jsonl").write_bytes(b"".join(of_source))
    url = str(folder / "index")
    bisieve.score(str(folder / "annotations"), url, engine="local", seed=seed)
    return url


def lines_of(rows: pa.Table) -> Iterator[tuple[str, bytes]]:
    """Yield source and record of each row, as it is in its shard."""
    shards: dict[str, bytes] = {}
    for source, spans in zip(rows["source"].to_pylist(), rows["spans"].to_pylist(), strict=True):
        (span,) = spans
        data = shards.setdefault(span["shard"], shards.get(span["shard"]) or read_bytes(span["shard"]))
        yield source, data[span["offset"] : span["offset"] + span["length"]].rstrip(b"\n") + b"\n"
