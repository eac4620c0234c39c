"""A selection as a folder for the Hugging Face hub, which its viewer and ``datasets`` open.

data/train-00000.parquet, …   rollouts with their images (`parquet_files`)
README.md                     the data set's card (`dataset_card`)
croissant.json                the same in Croissant 1.0, which data set searches and loaders read
                              (`croissant`); the hub makes one of its own
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from bisieve._text import percent, pluralize
from bisieve._version import __version__
from bisieve.events import ignored
from bisieve.index.selection import Selection
from bisieve.io.storage import write_bytes
from bisieve.io.urls import basename, canonical, join
from bisieve.records.options import Parameters
from bisieve.tools.formats.parquet_files import (
    DATA,
    MEANINGS,
    SCHEMA,
    SPLIT,
    DataFile,
    card_features,
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
_FILES, _RECORDS = "parquet-files", "rollouts"
_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "int32": "sc:Integer", "double": "sc:Float",
          "bool": "sc:Boolean"}  # fmt: skip

_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet",
    "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField",
    "path": "cr:path", "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex",
    "repeated": "cr:repeated", "replace": "cr:replace", "sc": "https://schema.org/",
    "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField",
    "transform": "cr:transform",
    "equivalentProperty": "cr:equivalentProperty", "samplingRate": "cr:samplingRate",
}  # fmt: skip


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
        UsageError: The folder has data files already, or a record names an image and there is no
            ``image_root``.
        ImageError: An image cannot be read.
        IndexUnusableError: A span does not hold the indexed rollout any more.
        StorageError: A shard cannot be read, or ``folder`` cannot be written.
    """
    files = write_parquet(selection, folder, image_root, wrote)
    name, today = basename(canonical(folder)), datetime.now(UTC).date().isoformat()
    described = croissant(name, summary(selection), files, today)
    write_bytes(
        join(folder, CROISSANT), msgspec.json.format(msgspec.json.encode(described), indent=2) + b"\n"
    )
    write_bytes(join(folder, README), dataset_card(name, selection, files).encode())
    return sum(file.rows for file in files)


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
        ranking=_table(_ranking(selection, selection.parameters)),
    )  # fmt: skip
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n{page}"


def _sources(selection: Selection) -> str:
    counted = selection.rows.group_by("source", use_threads=False).aggregate(
        [("rank", "count"), ("num_steps", "sum")]
    )
    rows = counted.take(pc.sort_indices(counted["source"])).to_pylist()
    return _table((row["source"], f"{row['rank_count']:,}", f"{row['num_steps_sum']:,}") for row in rows)


def _ranking(selection: Selection, parameters: Parameters) -> list[tuple[str, str]]:
    of = "each source" if parameters.scope == "source" else "all sources"
    return [
        ("fraction", f"the best {percent(selection.fraction)} of {of}"),
        ("strategy", parameters.strategy),
        ("α", f"{parameters.alpha:g}"),
        ("threshold of a positive step", f"a score above {parameters.threshold:g}"),
        ("ties", parameters.ties),
        ("selection", f"`{selection.fingerprint}`"),
        ("made by", f"bisieve {__version__}"),
    ]


def _table(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def croissant(name: str, description: str, files: Sequence[DataFile], published: str) -> dict[str, Any]:
    """Return the description as JSON values.

    Args:
        name: Name of the data set.
        description: What it is, in a sentence or two.
        files: Its Parquet files.
        published: Date, as in "2026-01-31".
    """
    fileset = {
        "@type": "cr:FileSet", "@id": _FILES, "name": _FILES, "description": "Rollouts with images.",
        "encodingFormat": "application/x-parquet", "includes": f"{DATA}/{SPLIT}-*.parquet",
    }  # fmt: skip
    records = {
        "@type": "cr:RecordSet", "@id": _RECORDS, "name": _RECORDS, "description": "One rollout a record.",
        "key": {"@id": f"{_RECORDS}/rollout_id"}, "field": [_field(column) for column in SCHEMA],
    }  # fmt: skip
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "datePublished": published,
        "version": "1.0.0",
        "distribution": [*map(_file, files), fileset],
        "recordSet": [records],
    }


def _file(file: DataFile) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject", "@id": file.name, "name": file.name, "contentUrl": file.name,
        "contentSize": f"{file.size} B", "sha256": file.sha256, "encodingFormat": "application/x-parquet",
    }  # fmt: skip


def _field(column: pa.Field) -> dict[str, Any]:
    is_list = pa.types.is_list(column.type)
    kind = column.type.value_type if is_list else column.type
    source: dict[str, Any] = {"fileSet": {"@id": _FILES}, "extract": {"column": column.name}}
    if pa.types.is_struct(kind):
        source["transform"] = {"jsonPath": "$[*].bytes"}
    field = {
        "@type": "cr:Field", "@id": f"{_RECORDS}/{column.name}", "name": column.name,
        "description": MEANINGS[column.name], "dataType": _TYPES.get(str(kind), "sc:ImageObject"),
        "source": source,
    }  # fmt: skip
    return field | ({"repeated": True} if is_list else {})
