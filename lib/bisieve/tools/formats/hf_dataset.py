"""A selection as a folder for the Hugging Face hub, which its viewer and ``datasets`` open.

data/train-00000.parquet, …   rollouts with their images (`parquet_files`)
README.md                     the data set's card (`dataset_card`)
croissant.json                the same for programs (`croissant`)
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

import msgspec
import pyarrow.compute as pc
import yaml

from bisieve._text import percent, pluralize
from bisieve._version import __version__
from bisieve.errors import UsageError
from bisieve.events import ignored
from bisieve.index.selection import Selection
from bisieve.io.storage import exists, file_names, write_bytes
from bisieve.io.urls import basename, canonical, join
from bisieve.tools.formats.croissant import croissant
from bisieve.tools.formats.parquet_files import (
    DATA,
    MEANINGS,
    SPLIT,
    DataFile,
    card_features,
    removed_on_error,
    write_parquet,
)

README, CROISSANT = "README.md", "croissant.json"
_SIZES = {
    1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M",
    10_000_000: "1M<n<10M", 100_000_000: "10M<n<100M", 1_000_000_000: "100M<n<1B",
}  # fmt: skip
_MORE = "1B<n<10B"

_PAGE = """# {name}

{summary}

```python
from datasets import load_dataset

rollouts = load_dataset("PATH_OR_ID", split="{split}")  # this folder, or its id on the hub
```

The columns are those that [bisieve](https://pypi.org/project/bisieve) reads: `bisieve score --input
{data}/*.parquet --index index --source-field source` makes an index of them, with the images inside.

## Columns

| column | meaning |
|---|---|
{columns}

## Where it is from

| source | rollouts | steps |
|---|---|---|
{sources}

## How it was selected

| | |
|---|---|
{ranking}

## Limits

- The scores of the steps are estimates from sampled continuations, not judgements of people.
- It is the best fraction by a score, not a sample: shares of labels and sources differ from the corpus.
- Licence and terms of use are those of the sources. Add them here, and as `license` in the header.
"""


def export_hf_dataset(
    selection: Selection, folder: str, image_root: str = "", wrote: Callable[[int], None] = ignored
) -> int:
    """Write the selection as a data set of the Hugging Face hub.

    README.md and croissant.json are written last, when the Parquet files are complete.

    Args:
        selection: The rollouts to write.
        folder: URL of the folder; its last segment is the name of the data set.
        image_root: Where the images are that the records name; not needed for images inside them.
        wrote: Called with the number of rollouts of each part that is written.

    Returns:
        The number of rollouts.

    Raises:
        UsageError: The folder has data files, a README.md or a croissant.json already, or a record names an
            image and there is no ``image_root``.
        ImageError: An image cannot be read.
        IndexUnusableError: A span does not hold the indexed rollout any more.
        StorageError: A shard cannot be read, or ``folder`` cannot be written.
    """
    _check_free(folder)
    files = write_parquet(selection, folder, image_root, wrote)
    name, today = basename(canonical(folder)), datetime.now(UTC).date().isoformat()
    described = croissant(name, summary(selection), files, today)
    with removed_on_error(folder, files, CROISSANT, README):
        write_bytes(
            join(folder, CROISSANT), msgspec.json.format(msgspec.json.encode(described), indent=2) + b"\n"
        )
        write_bytes(join(folder, README), dataset_card(name, selection, files).encode())
    return sum(file.rows for file in files)


def _check_free(folder: str) -> None:
    """Raise `UsageError` if ``folder`` has files that would be replaced or mixed with new ones."""
    data = join(folder, DATA)
    if exists(data) and file_names(data):
        raise UsageError(f"no files in {data}", "those of an earlier export", "name another --output")
    for name in (README, CROISSANT):
        if exists(join(folder, name)):
            raise UsageError(f"a folder without {name} as --output", f"one in {folder}", "name a new folder")


def summary(selection: Selection) -> str:
    """Return what the data set is, in two sentences."""
    return (
        f"{pluralize(selection.rows.num_rows, 'rollout')} for training multimodal process reward models: "
        "each is a question with its images and a solution in steps, with a Monte Carlo score for each step. "
        f"They are the best {percent(selection.fraction)} of {pluralize(selection.available, 'rollout')}."
    )


def size_category(rollouts: int) -> str:
    """Return the hub's name for the size of a data set."""
    return next((text for most, text in _SIZES.items() if rollouts < most), _MORE)


def dataset_card(name: str, selection: Selection, files: Sequence[DataFile]) -> str:
    """Return the card with its YAML header.

    Args:
        name: Name of the data set.
        selection: The selection that was written.
        files: The files that it was written to.
    """
    rows, size = selection.rows.num_rows, sum(file.size for file in files)
    split = {"name": SPLIT, "num_bytes": size, "num_examples": rows}
    header = {
        "pretty_name": name,
        "task_categories": ["image-text-to-text"],
        "tags": ["process-reward-model", "bisieve"],
        "size_categories": [size_category(rows)],
        "configs": [
            {"config_name": "default", "data_files": [{"split": SPLIT, "path": f"{DATA}/{SPLIT}-*"}]}
        ],
        "dataset_info": {
            "features": card_features(), "splits": [split], "download_size": size, "dataset_size": size,
        },
    }  # fmt: skip
    page = _PAGE.format(
        name=name, summary=summary(selection), split=SPLIT, data=DATA, sources=_sources(selection),
        columns=_table((f"`{column}`", meaning) for column, meaning in MEANINGS.items()),
        ranking=_table(_ranking(selection)),
    )  # fmt: skip
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n{page}"


def _sources(selection: Selection) -> str:
    counted = selection.rows.group_by("source", use_threads=False).aggregate(
        [("rank", "count"), ("num_steps", "sum")]
    )
    rows = counted.take(pc.sort_indices(counted["source"])).to_pylist()
    return _table((row["source"], f"{row['rank_count']:,}", f"{row['num_steps_sum']:,}") for row in rows)


def _ranking(selection: Selection) -> list[tuple[str, str]]:
    parameters, left_out = selection.parameters, selection.left_out.rollouts
    of = "each source" if parameters.scope == "source" else "all sources"
    return [
        ("fraction", f"the best {percent(selection.fraction)} of {of}"),
        ("strategy", parameters.strategy),
        ("α", f"{parameters.alpha:g}"),
        ("threshold of a positive step", f"a score above {parameters.threshold:g}"),
        ("ties", parameters.ties),
        *([("left out by their ids", pluralize(left_out, "rollout"))] if left_out else []),
        ("selection", f"`{selection.fingerprint}`"),
        ("made by", f"bisieve {__version__}"),
    ]


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
