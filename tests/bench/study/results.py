"""The results of the study as a Parquet file: a row per run, with all that it depends on."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from bench.study.grid import Run
from bench.study.recipe import RECIPE, REGIMES
from bisieve.synthetic.corpus_config import CorpusConfig
from ray_train.model.files import contents_of

# Settings of a corpus that came after the first run: without a value of their own they change nothing.
ADDED_LATER = ("any_order",)


def configuration(run: Run) -> dict[str, Any]:
    """Return what is equal in all runs of a regime: recipe, corpus without its seed, contents of the base.

    The code is no part of it: who changes the generator or the training so that its results change makes the
    study again, in another file.
    """
    regime = REGIMES[run.regime]
    corpus = vars(regime.corpus(0)) | {"seed": None, "solver": vars(regime.corpus(0).solver)}
    for name in ADDED_LATER:
        if corpus[name] == getattr(CorpusConfig, name):
            del corpus[name]
    base = regime.backbone.with_name(run.base or regime.backbone.name)
    return {"recipe": RECIPE, "corpus": corpus, "base": contents_of(str(base))}


def key_of(run: Run) -> str:
    """Return a hash of all that decides the result of a run; 16 hex digits."""
    text = json.dumps([run.fields(), configuration(run)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_results(path: Path) -> list[dict[str, Any]]:
    """Return the rows of the results, none if there is no file."""
    return pq.read_table(path).to_pylist() if path.exists() else []


def add_result(path: Path, run: Run, found: dict[str, Any]) -> None:
    """Add a row to the results; the file is replaced whole, so that a kill leaves the old one."""
    configured = json.dumps(configuration(run), sort_keys=True)
    row = {"key": key_of(run), "name": run.name, **run.fields(), **found, "configuration": configured}
    rows = [*(old for old in read_results(path) if old["key"] != row["key"]), row]
    # Of rows with different columns, as an untrained base has few, pyarrow would take those of the first.
    columns = dict.fromkeys(name for each in rows for name in each)
    rows = [{name: each.get(name) for name in columns} for each in rows]
    unfinished = path.with_suffix(".unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), unfinished, compression="zstd")
    os.replace(unfinished, path)
