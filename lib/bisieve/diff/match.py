"""Finds the rollouts of one source that two indexes share."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from bisieve.sort.keys import Order, sorted_indices

Places = npt.NDArray[np.int64]

NOBODY = -1
_BY_PLACE: Order = (("id", "ascending"), ("shard", "ascending"), ("offset", "ascending"))


def partners(a: pa.Table, b: pa.Table) -> tuple[Places, Places]:
    """For each row of ``a`` its row in ``b``, and the other way round; `NOBODY` where there is none.

    Rows, of `rows.ROWS`, belong together when they have the same ``rollout_id``.  Of several with one id
    the first by (shard, offset) belongs to the first, the second to the second, and so on.
    """
    ids = pa.chunked_array([*a["rollout_id"].chunks, *b["rollout_id"].chunks], pa.string())
    codes = ids.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    codes_a, codes_b = np.split(codes, [a.num_rows])
    copies_a, copies_b = _copies(a, codes_a), _copies(b, codes_b)
    most = 1 + max(copies_a.max(initial=0), copies_b.max(initial=0))
    _, in_a, in_b = np.intersect1d(
        codes_a * most + copies_a, codes_b * most + copies_b, assume_unique=True, return_indices=True
    )
    of_a, of_b = np.full(a.num_rows, NOBODY), np.full(b.num_rows, NOBODY)
    of_a[in_a], of_b[in_b] = in_b, in_a
    return of_a, of_b


def _copies(rows: pa.Table, codes: Places) -> Places:
    """Which one of the rows with its id a row is, from 0 on."""
    copies = np.zeros(len(codes), np.int64)
    if not len(codes):
        return copies
    several = np.flatnonzero(np.bincount(codes)[codes] > 1)
    of_several = rows.select(["shard", "offset"]).take(several)
    placed = pa.table({
        "id": codes[several],
        "shard": of_several["shard"].cast(pa.string()),
        "offset": of_several["offset"],
    })  # fmt: skip
    several = several[sorted_indices(placed, _BY_PLACE)]
    place = np.arange(len(several))
    begins = np.diff(codes[several], prepend=NOBODY) != 0
    copies[several] = place - np.maximum.accumulate(np.where(begins, place, 0))
    return copies
