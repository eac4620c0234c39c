"""Options of reading records: layout, field names, source and images."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bisieve.errors import UsageError
from bisieve.io.file_names import file_stem, folder_name, partition_value

Layout = Literal["rollouts", "steps"]

# Every field that is read, by the name that it has here.
STEPS = "steps_with_score"
STEP_FIELDS = ("step", "score", "num_mc_correct", "num_mc_total")
FIELDS = ("rollout_id", "image", "question", "question_orig", STEPS, "step_index", *STEP_FIELDS)
SOURCE = "source"  # the name here of the field that names the source


@dataclass(frozen=True)
class ReadOptions:
    """What was asked for; `UsageError` where it contradicts itself."""

    layout: Literal["auto", "rollouts", "steps"] = "auto"  # auto: each shard's shows in its first records
    source_from: Literal["stem", "folder"] = "stem"  # a shard's source: its file stem, or its folder's name
    source_field: str | None = None  # the field that names each record's source instead
    fields: Mapping[str, str] = field(default_factory=dict)  # name here → name in the records
    image_prefixes: Mapping[str, str] = field(
        default_factory=dict
    )  # how image names begin → what to put there
    labels_as_scores: bool = False  # true and false are the scores 1 and 0

    def __post_init__(self) -> None:
        """Checks the names."""
        if unknown := sorted(set(self.fields) - set(FIELDS)):
            raise UsageError(
                f"--field NAME=THEIRS with a NAME of {', '.join(FIELDS)}", unknown[0], "correct the NAME"
            )
        read: dict[str, list[str]] = defaultdict(list)
        for ours, theirs in self.names.items():
            read[theirs].append(ours)
        if twice := next((theirs for theirs, ours in read.items() if len(ours) > 1), None):
            raise UsageError(
                "each field of the records under one name", f"{twice} as {' and '.join(read[twice])}",
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
        """Name here → name in the records, for every field that is read."""
        source = {} if self.source_field is None else {SOURCE: self.source_field}
        return {**{name: self.fields.get(name, name) for name in FIELDS}, **source}

    @property
    def of_our_names(self) -> "ReadOptions":
        """The same for records whose fields have been given the names that they have here."""
        return replace(self, fields={}, source_field=None if self.source_field is None else SOURCE)

    def layout_of(self, fields: Mapping[str, bool]) -> Layout | None:
        """Return the layout that a record or the columns of a table show; None where they show none.

        Args:
            fields: The names that they have, each with whether a list of values is there.
        """
        if self.names[STEPS] in fields:
            return "rollouts"
        if self.names["step_index"] in fields:
            return "steps"
        return "rollouts" if fields.get(self.names["step"]) else None

    def source_of(self, shard: str) -> str:
        """The source of the records of a shard that name none themselves."""
        if (partition := self.partition_of(shard)) is not None:
            return partition
        return folder_name(shard) if self.source_from == "folder" else file_stem(shard)

    def partition_of(self, shard: str) -> str | None:
        """Return the source field's value in a shard's path, as in ``source=geo/part-0.parquet``."""
        return None if self.source_field is None else partition_value(shard, self.source_field)

    def image_path(self, name: str) -> str:
        """Where the image that a record calls ``name`` lies below the image root: the longest prefix wins."""
        begins = [prefix for prefix in self.image_prefixes if name.startswith(prefix)]
        if not begins:
            return name
        longest = max(begins, key=len)
        return self.image_prefixes[longest] + name.removeprefix(longest)


@dataclass(frozen=True)
class KnownShards:
    """How the records of shards that an index knows are read."""

    reading: ReadOptions
    layouts: Mapping[str, Layout]  # by the shard's URL


@dataclass(frozen=True)
class Parameters:
    """What was asked of the scoring run; part of the fingerprint."""

    alpha: float  # of the score, paper §4
    scope: str  # source: ranked inside each source (the paper); global: over all
    ties: str  # file, hash or spread: the order among equal scores
    seed: int  # of ties=hash and of random order
    reading: ReadOptions = field(default_factory=ReadOptions)  # how records are read
    threshold: float = 0.0  # a step is positive when its score exceeds it
    strategy: str = "bis"  # what ranks: one of ranking.STRATEGIES
