"""Options for reading and scoring: layout, field names, source, images, and the run's parameters."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from bisieve._text import did_you_mean
from bisieve.errors import UsageError
from bisieve.io.urls import file_stem, folder_name, partition_value

Layout = Literal["rollouts", "steps"]

# Every field that is read, by bisieve's own name for it.
STEPS = "steps_with_score"
STEP_FIELDS = ("step", "score", "num_mc_correct", "num_mc_total")
FIELDS = ("rollout_id", "image", "question", "question_orig", STEPS, "step_index", *STEP_FIELDS)
SOURCE = "source"  # bisieve's name for the field that `ReadOptions.source_field` names


@dataclass(frozen=True)
class ReadOptions:
    """How records are read.

    Raises:
        UsageError: A field name is unknown, two fields have one name in the corpus, or both ``source_from``
            and ``source_field`` are given.
    """

    layout: Literal["auto", "rollouts", "steps"] = "auto"  # auto: detected from each shard's first records
    source_from: Literal["stem", "folder"] = "stem"  # a shard's source: its file stem, or its folder's name
    source_field: str | None = None  # the field that names each record's source instead
    fields: Mapping[str, str] = field(default_factory=dict)  # bisieve's name → name in the corpus
    image_prefixes: Mapping[str, str] = field(default_factory=dict)  # prefix of names → its replacement
    labels_as_scores: bool = False  # read true and false as the scores 1 and 0

    def __post_init__(self) -> None:
        """Check the names of fields and the options for the source."""
        if unknown := sorted(set(self.fields) - set(FIELDS)):
            raise UsageError(
                f"--field NAME=COLUMN with a NAME of {', '.join(FIELDS)}",
                unknown[0],
                did_you_mean(unknown[0], FIELDS) or "correct the NAME",
            )
        read: dict[str, list[str]] = defaultdict(list)
        for ours, theirs in self.names.items():
            read[theirs].append(ours)
        if twice := next((theirs for theirs, ours in read.items() if len(ours) > 1), None):
            raise UsageError(
                "each field of the records mapped once", f"{twice} as {' and '.join(read[twice])}",
                "correct --field or --source-field",
            )  # fmt: skip
        if self.source_from == "folder" and self.source_field is not None:
            raise UsageError(
                "--source-from or --source-field",
                f"both, {self.source_from} and {self.source_field}",
                "leave out one",
            )

    @property
    def names(self) -> dict[str, str]:
        """Return bisieve's name → name in the corpus, for every field that is read."""
        source = {} if self.source_field is None else {SOURCE: self.source_field}
        return {**{name: self.fields.get(name, name) for name in FIELDS}, **source}

    @property
    def of_our_names(self) -> "ReadOptions":
        """Return the same options for records that already have bisieve's names."""
        return replace(self, fields={}, source_field=None if self.source_field is None else SOURCE)

    def layout_of(self, fields: Mapping[str, bool]) -> Layout | None:
        """Return the layout that the fields of a record or the columns of a table show, or None.

        Args:
            fields: Field or column name → whether its value is a list.
        """
        if self.names[STEPS] in fields:
            return "rollouts"
        if self.names["step_index"] in fields:
            return "steps"
        return "rollouts" if fields.get(self.names["step"]) else None

    def source_of(self, shard: str) -> str:
        """Return the source of those records of a shard that have no source field."""
        if (partition := self.partition_of(shard)) is not None:
            return partition
        return folder_name(shard) if self.source_from == "folder" else file_stem(shard)

    def partition_of(self, shard: str) -> str | None:
        """Return the source field's value in a shard's path, as in ``source=geo/part-0.parquet``, or None."""
        return None if self.source_field is None else partition_value(shard, self.source_field)

    def image_path(self, name: str) -> str:
        """Return the path below the image root for the image ``name`` of a record.

        The longest matching prefix in ``image_prefixes`` is replaced.
        """
        begins = [prefix for prefix in self.image_prefixes if name.startswith(prefix)]
        if not begins:
            return name
        longest = max(begins, key=len)
        return self.image_prefixes[longest] + name.removeprefix(longest)


@dataclass(frozen=True)
class KnownShards:
    """Read options and layouts of the shards of an index."""

    reading: ReadOptions
    layouts: Mapping[str, Layout]  # by the shard's URL


SCOPES = ("source", "global")  # source: ranked inside each source (the paper); global: over all sources
TIES = ("file", "hash", "spread")  # the order among equal scores
ALL_NEGATIVE = ("keep", "last", "drop")  # rollouts without a positive step: ranked as others, last, or never

AUTO = "auto"  # as alpha of a selection: see `index.selection`
PAIR_SHARE = "pair_share"  # option of the strategy paired


@dataclass(frozen=True)
class Parameters:
    """Parameters of a scoring run; part of the index fingerprint."""

    alpha: float  # of BIS, paper §4
    scope: str  # one of `SCOPES`
    ties: str  # one of `TIES`
    seed: int  # for ties=hash, and for strategies with a random order
    reading: ReadOptions = field(default_factory=ReadOptions)  # how records are read
    threshold: float = 0.0  # a step is positive when its score exceeds it
    strategy: str = "bis"  # one of `ranking.strategies.strategy_names`
    all_negative: str = "keep"  # one of `ALL_NEGATIVE`; the paper keeps them
    pair_share: float = 1.0  # for the strategy paired: share of the mixed rollouts that get a partner

    def decisive(self) -> dict[str, Any]:
        """Return all parameters by name; those that are newer than the first indexes only where they differ.

        Indexes that were written before keep their fingerprints.
        """
        newer = {"all_negative": "keep", "pair_share": 1.0}
        return {
            name: value for name, value in asdict(self).items() if name not in newer or value != newer[name]
        }


EXCLUDE = "exclude"  # option of a selection: rollouts that it leaves out
RANKING = ("strategy", "alpha", "threshold", "pair_share", "scope", "ties", "all_negative", "seed")


def check_ranking(given: Mapping[str, Any]) -> None:
    """Check the values of options of a ranking, by name, except that of the strategy.

    Raises:
        UsageError: A name is unknown, or a value is out of range.
    """
    for name in given:
        if name not in RANKING:
            hint = did_you_mean(name, RANKING) or "correct the name of the option"
            raise UsageError(f"one of {', '.join(RANKING)}", name, hint)
    alpha, threshold = given.get("alpha", 0.0), given.get("threshold", 0.0)
    if not (math.isfinite(alpha) and alpha >= 0):
        raise UsageError("an --alpha from 0 on", str(alpha), "the paper uses 0.05 at 25% and 0.2 at 10%")
    if not 0 <= threshold < 1:
        raise UsageError("a --threshold in [0, 1)", str(threshold), "the paper uses 0")
    if not 0 <= given.get("seed", 0) < 2**63:
        raise UsageError("a seed from 0 to 2⁶³ − 1", str(given["seed"]), "correct it")
    if not 0 <= given.get(PAIR_SHARE, 1) <= 1:
        raise UsageError("a --pair-share in [0, 1]", str(given[PAIR_SHARE]), "correct it")
    for name, known in (("scope", SCOPES), ("ties", TIES), ("all_negative", ALL_NEGATIVE)):
        if given.get(name, known[0]) not in known:
            raise UsageError(f"one of {', '.join(known)} as {name}", str(given[name]), "correct it")


def parse_fraction(given: str | float) -> float:
    """Parse a share in (0, 1], as ``0.1`` or as a percentage such as ``10%``.

    Raises:
        UsageError: It is neither, or out of range.
    """
    expected = "a fraction in (0, 1], or a percentage such as 10%"
    text = str(given).strip()
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        raise UsageError(expected, repr(given), "correct --fraction") from None
    fraction = number / 100 if text.endswith("%") else number
    if not 0 < fraction <= 1:
        is_percentage = not text.endswith("%") and 1 < number <= 100
        share = f"for {number:g}% give --fraction {number / 100:g} or {number:g}%"
        raise UsageError(expected, text, share if is_percentage else "correct --fraction")
    return fraction
