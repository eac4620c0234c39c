"""Rollouts to look at: kept, just kept, just dropped and dropped, with their text and images if readable.

limits ─`chosen_ranks`─▶ ranks by source ─`View.at`─▶ rows ─`fetch_rollouts`─▶ text ─`thumbnail`─▶ images
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from bisieve.errors import BisieveError, ImageError
from bisieve.index.reader import indexed_shards
from bisieve.io.file_names import is_seekable
from bisieve.io.images import decode_image, image_bytes
from bisieve.records.embedded_images import Picture
from bisieve.records.model import Rollout
from bisieve.records.options import Parameters
from bisieve.report.rows import View
from bisieve.shards.fetch import fetch_rollouts, spans_of

KINDS = ("kept", "just kept", "just dropped", "dropped")
OF_A_KIND = 6
_WIDTH, _HEIGHT, _QUALITY = 360, 240, 72  # of a thumbnail: pixels, and JPEG's quality
_MOST_IMAGES = 2  # of a rollout
_MOST_PROBLEMS = 5  # after which no more text, or no more images, are read
_MOST_STREAMED = 2**28  # bytes of a shard that is read from its beginning
_DESCRIBED = (
    "source", "rank", "rollout_id", "question_id", "bis", "positive_fraction", "reliability", "num_steps",
    "num_positive", "scores", "mc_correct", "mc_total",
)  # fmt: skip


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


def find_examples(view: View, image_root: str | None) -> Examples:
    """Choose rollouts of a view, and read their text and images.

    What cannot be read is left out, with a note: an index is readable without its shards.

    Args:
        view: The index and the selection.
        image_root: Where the images are; None: only images inside the records are shown.

    Raises:
        IndexUnusableError: A file of the index is missing or damaged.
    """
    ranks = chosen_ranks(view)
    wanted: dict[str, set[int]] = {}
    for places in ranks.values():
        for source, rank in places:
            wanted.setdefault(source, set()).add(rank)
    rows = view.at(wanted)
    described = rows.select(_DESCRIBED).to_pylist()
    place_of = {(row["source"], row["rank"]): place for place, row in enumerate(described)}
    saved: dict[str, bytes] = {}
    texts, notes = _texts(view, rows, saved)
    images = _Images(image_root, saved)
    examples = []
    for kind, places in ranks.items():
        for place in (place_of[each] for each in places if each in place_of):
            row, rollout = described[place], texts[place]
            shown = images.of(rollout) if rollout else ()
            examples.append(Example(kind, row, _why(row, kind, view), rollout, shown))
    return Examples(examples, notes + images.notes)


def chosen_ranks(view: View) -> dict[str, list[tuple[str, int]]]:
    """Return (source, rank) of the examples by kind, spread over the sources, the largest ones first."""
    limits, rollouts = view.limits, view.index.rollouts_by_source
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
    kept, dropped = just_kept[0] - 1, rollouts - limit - len(just_dropped)
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
    names = view.index.rollouts_by_source
    return {kind: [(name, rank) for rank in found for name in names] for kind, found in ranks.items()}


def _texts(view: View, rows: pa.Table, saved: dict[str, bytes]) -> tuple[list[Rollout | None], list[str]]:
    """Return the rollouts of ``rows``, None where a record cannot be read, and a note on these."""

    def save(pictures: Sequence[Picture]) -> list[str]:
        saved.update({picture.hashed_name: picture.data for picture in pictures})
        return [picture.hashed_name for picture in pictures]

    found: list[Rollout | None] = [None] * rows.num_rows
    problems: list[str] = []
    sizes = {shard.url: shard.size for shard in indexed_shards(view.index)}
    by_shard: dict[str, list[int]] = {}
    for number, spans in enumerate(spans_of(rows)):
        by_shard.setdefault(spans[0][0], []).append(number)
    for shard, numbers in by_shard.items():
        if not is_seekable(shard) and sizes.get(shard, 0) > _MOST_STREAMED:
            problems.append(f"{shard} is compressed, so it would have to be read from its beginning")
        elif len(problems) < _MOST_PROBLEMS:  # a store that does not answer is waited for each time
            some = rows.take(numbers)
            try:
                for number, rollout in zip(numbers, fetch_rollouts(some, view.shards, save), strict=True):
                    found[number] = rollout
            except BisieveError as error:
                problems.append(str(error))
    missing = found.count(None)
    note = f"the text of {missing} of {len(found)} rollouts: {problems[0]}" if missing else ""
    return found, [note] if missing else []


class _Images:
    """Reads images and makes thumbnails; what fails is noted once."""

    def __init__(self, root: str | None, saved: dict[str, bytes]) -> None:
        self._root, self._saved = root, saved
        self._problems: list[str] = []

    @property
    def notes(self) -> list[str]:
        """Return the first problem, if there was any."""
        return self._problems[:1]

    def of(self, rollout: Rollout) -> tuple[str, ...]:
        """Return the thumbnails of the first images of ``rollout``, as data URLs."""
        names = rollout.images[:_MOST_IMAGES]
        return tuple(url for name in names if (url := self._thumbnail(name)) is not None)

    def _thumbnail(self, name: str) -> str | None:
        if len(self._problems) >= _MOST_PROBLEMS:
            return None
        if name not in self._saved and self._root is None:
            self._note("the images: name their root with --image-root")
            return None
        try:
            data = self._saved.get(name) or image_bytes(self._root or "", name)
            return thumbnail(data, name)
        except ImageError as error:
            self._note(f"an image: {error}")
        except ModuleNotFoundError:
            self._note("the images: they need the package pillow")
        return None

    def _note(self, text: str) -> None:
        self._problems.append(text)


def thumbnail(data: bytes, name: str) -> str:
    """Return a small JPEG of an image as a data URL.

    Raises:
        ImageError: The bytes are no image that can be decoded.
    """
    image = decode_image(data, name)
    image.thumbnail((_WIDTH, _HEIGHT))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _why(row: dict[str, Any], kind: str, view: View) -> str:
    """Return in a sentence why a rollout is kept or dropped."""
    parameters, limit = view.parameters, view.limits[row["source"]]
    where = "all" if parameters.scope == "global" else f"source {row['source']}"
    verb = "dropped" if "dropped" in kind else "kept"
    return f"{verb}: rank {row['rank']:,}, of {where} the best {limit:,} are kept; {_score(row, parameters)}"


def _score(row: dict[str, Any], parameters: Parameters) -> str:
    steps, positive = row["num_steps"], row["num_positive"]
    if positive == 0:
        labels = "no step is positive, so the mixture is 0"
    elif positive == steps:
        labels = "all steps are positive, so the mixture is 0"
    else:
        labels = f"{steps - positive} of {steps} steps are negative"
    by = "" if parameters.strategy == "bis" else f", but the ranking is by {parameters.strategy}"
    return f"{labels}; BIS {row['bis']:.4f}{by}"
