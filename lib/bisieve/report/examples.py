"""The records that a report shows: rollouts that are kept and dropped, and rejected records by reason.

limits ─`chosen_ranks`─▶ ranks by source ─`View.at`─▶ rows ─`read_texts`─▶ text ─`Images`─▶ images
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc

from bisieve.index.reader import Index, open_part
from bisieve.records.model import HINTS, Rollout
from bisieve.records.options import Parameters
from bisieve.report.reading import Beginnings, Images, Unanswered, notes_on, read_texts
from bisieve.report.rows import View

KINDS = ("kept", "just kept", "just dropped", "dropped")
OF_A_KIND = 6
MOST_STEPS, MOST_CHARACTERS = 40, 1500  # of a rollout that is shown, and of each of its texts
DESCRIBED = (  # columns of the index that are shown of a rollout
    "source", "rank", "rollout_id", "question_id", "bis", "positive_fraction", "reliability", "num_steps",
    "num_positive", "scores", "mc_correct", "mc_total",
)  # fmt: skip
_OF_A_REASON = 3  # rejected records that are shown
_REJECTS = ["reason", "shard", "offset", "length"]


@dataclass(frozen=True)
class Example:
    """A rollout with why it is kept or dropped, and with its text and images if they could be read."""

    kind: str  # one of `KINDS`
    row: dict[str, Any]  # columns of the index, without spans
    why: str
    rollout: Rollout | None = None
    images: Sequence[str] = ()  # data URLs


@dataclass(frozen=True)
class Examples:
    """The rollouts to look at, and what could not be read of them."""

    found: list[Example] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_examples(view: View, image_root: str | None, unanswered: Unanswered) -> Examples:
    """Choose rollouts of a view, and read their text and images.

    What cannot be read is left out, with a note: an index is readable without its shards.

    Args:
        view: The index and the selection.
        image_root: Where the images are; None: only images inside the records are shown.
        unanswered: Stores that are not read from; gets those that do not answer.

    Raises:
        IndexUnusableError: A file of the index is missing or damaged.
    """
    ranks = chosen_ranks(view)
    wanted: dict[str, set[int]] = {}
    for places in ranks.values():
        for source, rank in places:
            wanted.setdefault(source, set()).add(rank)
    rows = view.at(wanted)
    described = rows.select(DESCRIBED).to_pylist()
    place_of = {(row["source"], row["rank"]): place for place, row in enumerate(described)}
    saved: dict[str, bytes] = {}
    texts, problem = read_texts(view, rows, saved, unanswered)
    images = Images(image_root, saved, unanswered=unanswered)
    examples = []
    for kind, places in ranks.items():
        for place in (place_of[each] for each in places if each in place_of):
            row, rollout = described[place], texts[place]
            shown = images.of(rollout.images) if rollout else ()
            examples.append(Example(kind, row, why(row, view), rollout, shown))
    return Examples(examples, notes_on(texts, problem) + images.notes)


def chosen_ranks(view: View) -> dict[str, list[tuple[str, int]]]:
    """Return (source, rank) of the examples by kind, spread over the sources, the largest ones first."""
    limits, rollouts = view.limits, view.rollouts_by_source
    if view.parameters.scope == "global":
        return _global_ranks(view)
    sources = sorted((name for name in rollouts if rollouts[name]), key=lambda name: -rollouts[name])
    sources = sources[:OF_A_KIND]
    found: dict[str, list[tuple[str, int]]] = {kind: [] for kind in KINDS}
    for number, name in enumerate(sources):
        share = [OF_A_KIND * each // len(sources) for each in (number, number + 1)]
        for kind, ranks in _ranks_of(share[1] - share[0], limits[name], rollouts[name]).items():
            found[kind] += [(name, rank) for rank in ranks]
    return found


def _ranks_of(count: int, limit: int, rollouts: int) -> dict[str, list[int]]:
    """Return ``count`` ranks a kind, fewer where a source has not as many, none of them twice."""
    edge = max(1, min(count, limit // 2, max(1, (rollouts - limit) // 2)))
    just_kept = list(range(max(1, limit - edge + 1), limit + 1))
    just_dropped = list(range(limit + 1, min(limit + edge, rollouts) + 1))
    kept, dropped = limit - len(just_kept), rollouts - limit - len(just_dropped)
    return {
        "kept": _spread(count, 1, kept),
        "just kept": just_kept,
        "just dropped": just_dropped,
        "dropped": _spread(count, limit + len(just_dropped) + 1, dropped),
    }


def _spread(count: int, first: int, number: int) -> list[int]:
    """Return up to ``count`` ranks, evenly over ``number`` ranks from ``first`` on."""
    steps = max(count - 1, 1)
    return sorted({first + place * (number - 1) // steps for place in range(count)}) if number > 0 else []


def _global_ranks(view: View) -> dict[str, list[tuple[str, int]]]:
    """Return the ranks over all sources; which source has a rank is not known, so each may."""
    limit = next(iter(view.limits.values()), 0)
    ranks = _ranks_of(OF_A_KIND, min(limit, view.rollouts), view.rollouts)
    names = view.rollouts_by_source
    return {kind: [(name, rank) for rank in found for name in names] for kind, found in ranks.items()}


def why(row: Mapping[str, Any], view: View) -> str:
    """Return in a sentence why the rollout of a row of a view is kept or dropped."""
    parameters, limit = view.parameters, view.limits[row["source"]]
    where = "all" if parameters.scope == "global" else f"source {row['source']}"
    verb = "kept" if is_kept(row, view) else "dropped"
    return f"{verb}: rank {row['rank']:,}, of {where} the best {limit:,} are kept; {_score(row, parameters)}"


def is_kept(row: Mapping[str, Any], view: View) -> bool:
    """Return whether the selection of a view has the rollout of a row."""
    return bool(row["rank"] <= view.limits[row["source"]])


def _score(row: Mapping[str, Any], parameters: Parameters) -> str:
    steps, positive = row["num_steps"], row["num_positive"]
    if positive == 0:
        labels = "no step is positive, so the mixture is 0"
    elif positive == steps:
        labels = "all steps are positive, so the mixture is 0"
    else:
        labels = f"{steps - positive} of {steps} steps are negative"
    by = "" if parameters.strategy == "bis" else f", but the ranking is by {parameters.strategy}"
    return f"{labels}; BIS {row['bis']:.4f}{by}"


def step_labels(row: Mapping[str, Any]) -> list[str]:
    """Return the MC score of each step of a row: as K/N where these are known and N is not 0."""
    scores = row["scores"]
    correct, total = (row[name] or [0] * len(scores) for name in ("mc_correct", "mc_total"))
    return [f"{k}/{n}" if n else f"{score:.3g}" for k, n, score in zip(correct, total, scores, strict=True)]


def cut(text: str) -> str:
    """Return the beginning of a text that is too long for a page."""
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


@dataclass
class Reject:
    """A reason for which records were rejected."""

    reason: str
    records: int
    hint: str  # what a user can do; "" if there is nothing to say
    examples: list[tuple[str, str | None]] = field(
        default_factory=list
    )  # shard@offset, its first bytes as text


def find_rejects(index: Index, unanswered: Unanswered) -> list[Reject]:
    """Return the reasons for which records of an index were rejected, the most frequent first.

    Args:
        index: The index.
        unanswered: As of `find_examples`.

    Raises:
        IndexUnusableError: A file of the index is missing or damaged.
    """
    counts = sorted(index.manifest.rejected.items(), key=lambda each: -each[1])
    beginnings = Beginnings(unanswered)
    found = {reason: Reject(reason, records, HINTS.get(reason, "")) for reason, records in counts}
    for part in index.rejects:
        with open_part(index.url, part) as file:
            for group in range(file.num_row_groups):
                if all(reject.examples for reject in found.values()):
                    return list(found.values())
                rows = file.read_row_group(group, _REJECTS, use_threads=False)
                for reject in found.values():
                    missing = _OF_A_REASON - len(reject.examples)
                    of_it = rows.filter(pc.equal(rows["reason"], reject.reason)) if missing else rows
                    for row in of_it.slice(0, missing).to_pylist():
                        begins = beginnings.of(row["shard"], row["offset"], row["length"])
                        reject.examples.append((f"{row['shard']}@{row['offset']}", begins))
    return list(found.values())
