"""The Arrow schemas of the data between a scan and an index.

    records → STEPS (steps layout only) → SCORED ─┬▶ USABLE → INDEX   usable rollouts
                                                  └▶ REJECTS          rejected records and rollouts

CUTOFF_SCORES, SOURCES, FILES and SHARDS are small tables beside the index.  Until files are written, the
names of shards and sources are dictionary-encoded, because few names are repeated in very many rows.
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
    ("scores", pa.list_(pa.float64())),  # one per step, like the counts
    ("mc_correct", pa.list_(pa.int32())),
    ("mc_total", pa.list_(pa.int32())),
]

_REJECT_COUNT = [("reason", pa.string()), ("records", pa.int64())]
REJECT_COUNTS = pa.schema([("source", pa.string()), *_REJECT_COUNT])

# The cutoff of a selection: the score of its last row.  With scope=global there is one over all sources, and
# the source is null.
_CUTOFF_SCORE = [
    ("fraction", pa.float64()),
    ("rollouts", pa.int64()),  # number selected, of the source or of all sources
    ("bis", pa.float64()),  # of the last selected rollout
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
        ("tie_block", pa.int64()),  # size of the largest group of rollouts with equal scores
        ("rejected", pa.list_(pa.struct(_REJECT_COUNT))),
        ("cutoff_scores", pa.list_(pa.struct(_CUTOFF_SCORE))),  # empty with scope=global
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
        ("rollouts", pa.int64()),  # usable ones whose first record is in this shard
        ("rejected", pa.int64()),
    ]
)

MANIFEST = "manifest.json"


_PLACE = [("shard", CODED), ("offset", pa.int64()), ("length", pa.int64())]
_PLAIN_PLACE = [("shard", pa.string()), *_PLACE[1:]]

SPAN = pa.struct(_PLACE)

# One record of the steps layout, without its text.
STEPS = pa.schema(
    [
        ("rollout_id", pa.string()),  # null if the record has no valid id
        ("step_index", pa.int32()),
        ("source", CODED),
        ("image_id", pa.int64()),  # hash of the image(s); null if the record has none
        ("prompt_id", pa.int64()),  # hash of the question; null if the record has none
        ("question_id", pa.string()),  # hash of both; null if one is missing
        ("score", pa.float64()),
        ("mc_correct", pa.int32()),
        ("mc_total", pa.int32()),
        *_PLACE,
        ("reason", pa.string()),  # why the record makes its rollout unusable, or null
    ]
)

_SPANS = ("spans", pa.list_(SPAN))

# One rollout, scored (reason is null) or rejected (reason is set, the scores are null).  Shard, offset and
# length are those of its first span; they break ties.
SCORED = pa.schema([("source", CODED), *_ROLLOUT, _SPANS, *_PLACE, ("reason", pa.string())])

# One usable rollout before ranking.
USABLE = pa.schema([("source", CODED), *_ROLLOUT, _SPANS, *_PLACE[:2]])

_PLAIN_SPANS = ("spans", pa.list_(pa.struct(_PLAIN_PLACE)))
INDEX = pa.schema([("source", pa.string()), ("rank", pa.int64()), *_ROLLOUT, _PLAIN_SPANS])

REJECTS = pa.schema(
    [
        ("source", pa.string()),
        *_PLAIN_PLACE,
        ("rollout_id", pa.string()),
        ("reason", pa.string()),
        # All records of a rejected rollout of the steps layout; null if there is only the one above.
        _PLAIN_SPANS,
    ]
)
