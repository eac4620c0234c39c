"""Describe a data set in Croissant 1.0, the JSON that data set searches and loaders read.

The hub makes a description of its own; this one is for a folder that is published elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from bisieve.tools.formats.parquet_files import DATA, MEANINGS, SCHEMA, SPLIT, DataFile

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
