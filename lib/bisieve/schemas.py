"""The Arrow schemas of what flows from a scan to an index.

Until they are written, the names of shards and sources are coded: there are few, and each stands in very many
rows.
"""

import pyarrow as pa

CODED = pa.dictionary(pa.int32(), pa.string())

_ROLLOUT = [
    ("rollout_id", pa.string()),
    ("question_id", pa.string()),
    ("bis", pa.float64()),
    ("positive_fraction", pa.float64()),
    ("reliability", pa.float64()),
    ("num_steps", pa.int32()),
    ("num_positive", pa.int32()),
    ("scores", pa.list_(pa.float64())),  # per step, as are the counts
    ("mc_correct", pa.list_(pa.int32())),
    ("mc_total", pa.list_(pa.int32())),
]

_REJECT_COUNT = [("reason", pa.string()), ("records", pa.int64())]
REJECT_COUNTS = pa.schema([("source", pa.string()), *_REJECT_COUNT])

# Where a selection ends; with scope=global it is one over all, and the source is null.
_CUTOFF_SCORE = [
    ("fraction", pa.float64()),
    ("rollouts", pa.int64()),  # that it takes, of the source or of all
    ("bis", pa.float64()),  # of the last one that it takes
]
CUTOFF_SCORES = pa.schema([("source", pa.string()), *_CUTOFF_SCORE])

SOURCES = pa.schema(
    [
        ("source", pa.string()),
        ("rollouts", pa.int64()),  # usable ones
        ("steps", pa.int64()),
        ("mixed", pa.int64()),  # rollouts with positive and negative steps
        ("all_positive", pa.int64()),
        ("all_negative", pa.int64()),
        ("tie_block", pa.int64()),  # the most rollouts that share one score
        ("rejected", pa.list_(pa.struct(_REJECT_COUNT))),
        ("cutoff_scores", pa.list_(pa.struct(_CUTOFF_SCORE))),  # none with scope=global
    ]
)

FILES = pa.schema(
    [
        ("kind", pa.string()),  # rollouts or rejects
        ("path", pa.string()),  # relative to the index
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
    ]
)

SHARDS = pa.schema(
    [
        ("url", pa.string()),
        ("size", pa.int64()),  # bytes
        ("etag", pa.string()),  # or time of the last change
        ("layout", pa.string()),
        ("rollouts", pa.int64()),  # usable ones whose first record lies here
        ("rejected", pa.int64()),
    ]
)

MANIFEST = "manifest.json"


def _place(name: pa.DataType) -> list[tuple[str, pa.DataType]]:
    return [("shard", name), ("offset", pa.int64()), ("length", pa.int64())]


SPAN = pa.struct(_place(CODED))

# One step of the steps layout as its record gave it; text stays in the shard.
STEPS = pa.schema(
    [
        ("rollout_id", pa.string()),  # null: a record that belongs to no rollout
        ("step_index", pa.int32()),
        ("source", CODED),
        ("image_id", pa.int64()),  # hash of the image(s); null where the record has none
        ("prompt_id", pa.int64()),  # hash of the question; null where the record has none
        ("question_id", pa.string()),  # hash of both; null where one is missing
        ("score", pa.float64()),
        ("mc_correct", pa.int32()),
        ("mc_total", pa.int32()),
        *_place(CODED),
        ("reason", pa.string()),  # why the record spoils its rollout; null where it does not
    ]
)

_SPANS = ("spans", pa.list_(SPAN))

# One rollout, scored (reason is null) or rejected (reason is set, the scores are null).  Its place is that of
# its first span: with it ties are broken.
SCORED = pa.schema([("source", CODED), *_ROLLOUT, _SPANS, *_place(CODED), ("reason", pa.string())])

# A usable rollout before it is ranked.
USABLE = pa.schema([("source", CODED), *_ROLLOUT, _SPANS, *_place(CODED)[:2]])

_PLAIN_SPANS = ("spans", pa.list_(pa.struct(_place(pa.string()))))
INDEX = pa.schema([("source", pa.string()), ("rank", pa.int64()), *_ROLLOUT, _PLAIN_SPANS])

REJECTS = pa.schema(
    [
        ("source", pa.string()),
        *_place(pa.string()),
        ("rollout_id", pa.string()),
        ("reason", pa.string()),
        # All records of a rollout made of steps; null: its place is all.
        _PLAIN_SPANS,
    ]
)
