"""Trace the lineage of a model, run, evaluation or index back to its shards.

    shards ◀── index ◀── run ◀──┬── checkpoint
                                ├── evaluation ◀── pointer
                                └── picks

`chain_of` returns the chain as `Link`s, read from the files of each. A link whose source is gone or has
changed is marked as broken, and the chain continues as far as it is known.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bisieve._text import WIDTH, pluralize
from bisieve.errors import BisieveError, TrainingError
from bisieve.index.manifest import Manifest, read_manifest, version_manifest
from bisieve.index.reader import Index, check_shards_unchanged, missing_files
from bisieve.io import storage
from bisieve.io.urls import canonical, join
from bisieve.records.options import EXCLUDE, RANKING
from bisieve.schemas import MANIFEST
from ray_train.model.metadata import CARD, MODEL, card_of
from ray_train.registry.files import BEST_OF, CURSOR, METRICS, RUN

Kind = Literal["shards", "index", "run", "checkpoint", "evaluation", "picks", "pointer"]
Start = Literal["index", "model", "checkpoint", "metrics", "picks", "pointer"]


@dataclass(frozen=True)
class Link:
    """One element of a chain, described by its own files."""

    kind: Kind
    url: str
    name: str  # 16 digits of a fingerprint, the name of a run, or the step of a checkpoint
    facts: dict[str, Any] = field(default_factory=dict)
    broken: str | None = None  # why the files at the URL are not those that the next link was made from


def as_json(chain: Sequence[Link]) -> str:
    """Format a chain as JSON: ``[{kind, url, name, facts, broken}]``, the shards first."""
    return json.dumps([asdict(link) for link in chain], indent=1, ensure_ascii=False)


def as_text(chain: Sequence[Link]) -> str:
    """Format a chain as an indented tree, the shards first; facts are below their link."""
    return "\n".join(line for depth, link in enumerate(chain) for line in _lines(link, depth))


def _lines(link: Link, depth: int) -> list[str]:
    branch, indent = "   " * (depth - 1) + "└─ " * (depth > 0), "   " * (depth + 1)
    broken = [f"{indent}BROKEN: {link.broken}"] if link.broken else []
    facts: list[str] = []  # lines of them
    for name, value in link.facts.items():
        fact = f"{name.replace('_', ' ')} {_shown(name, value)}"
        if facts and len(indent) + len(facts[-1]) + len(fact) + 3 <= WIDTH:
            facts[-1] += f", {fact}"
        else:
            facts = [*facts[:-1], *(f"{line}," for line in facts[-1:]), fact]
    return [f"{branch}{link.kind} {link.name}  {link.url}", *(indent + line for line in facts), *broken]


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    is_count = isinstance(value, int) and name != "seed"
    return f"{value:,}" if is_count else str(value)


def read_json(url: str) -> dict[str, Any]:
    """Read the JSON object at ``url``.

    Raises:
        TrainingError: The file is not JSON, or not an object.
        StorageError: The file cannot be read.
    """
    try:
        found = json.loads(storage.read_bytes(url))
    except ValueError as error:
        raise TrainingError(
            f"JSON at {url}", "a file that is truncated or not JSON", "check the URL"
        ) from error
    if not isinstance(found, dict):
        raise TrainingError(f"a JSON object at {url}", type(found).__name__, "check the URL")
    return found


def chain_of(url: str, start: Start | None = None) -> list[Link]:
    """Return the chain that ends at ``url``, the shards first.

    Args:
        url: An index, a run's output or a model, a checkpoint, an evaluation, picks, or a pointer; for all
            but the pointer either the folder or its JSON file.
        start: Which of these it is; None: found out.

    Raises:
        TrainingError: There is none of these, or a file there is malformed.
        StorageError: A file cannot be read.
    """
    url = canonical(url)
    folder, _, name = url.rpartition("/")
    if start == "pointer" or (start is None and name.endswith(".json") and name not in _WALKS):
        return _from_pointer(url)
    url = folder if name.endswith(".json") else url
    for name in STARTS[start][1] if start else _WALKS:
        if storage.exists(join(url, name)):
            return _WALKS[name](url)
    what = STARTS[start][0] if start else "an index, a run or its model, a checkpoint, metrics or picks"
    raise TrainingError(what, f"none at {url}", "check the URL, or name it as what it is")


def _from_index(url: str) -> list[Link]:
    return _index_chain(url, read_manifest(url).fingerprint)


def _index_chain(url: str, fingerprint: str) -> list[Link]:
    """Return the chain up to the version ``fingerprint`` of the index at ``url``."""
    try:
        current = read_manifest(url)
        manifest = current if current.fingerprint == fingerprint else _version(url, fingerprint)
    except BisieveError as error:
        return [Link("index", url, fingerprint[:16], {}, str(error))]
    if manifest is None:
        broken = f"another version is there now, {current.fingerprint[:16]}"
        return [Link("index", url, fingerprint[:16], {}, broken)]
    return [_shards(url, manifest), _index(url, manifest, manifest is current)]


def _version(url: str, fingerprint: str) -> Manifest | None:
    at = join(url, version_manifest(fingerprint))
    return Manifest.from_json(storage.read_bytes(at), at) if storage.exists(at) else None


def _shards(url: str, manifest: Manifest) -> Link:
    """Return all shards as one link, which names the index's list of them."""
    facts = {
        "inputs": manifest.inputs, "shards": manifest.shards.rows, "bytes": manifest.shard_bytes,
        "list": join(url, manifest.shards.path),
    }  # fmt: skip
    try:
        check_shards_unchanged(Index(url, manifest))
    except BisieveError as error:
        return Link("shards", manifest.inputs[0], manifest.shards.sha256[:16], facts, str(error))
    return Link("shards", manifest.inputs[0], manifest.shards.sha256[:16], facts)


def _index(url: str, manifest: Manifest, is_current: bool) -> Link:
    parameters = manifest.parameters
    facts = {
        "rollouts": manifest.rollouts, "rejected": sum(manifest.rejected.values()), "alpha": parameters.alpha,
        "strategy": parameters.strategy, "current": is_current,
    }  # fmt: skip
    try:
        missing = missing_files(Index(url, manifest))
    except BisieveError as error:
        return Link("index", url, manifest.fingerprint[:16], facts, str(error))
    broken = f"{pluralize(len(missing), 'file')} gone, such as {missing[0]}" if missing else None
    return Link("index", url, manifest.fingerprint[:16], facts, broken)


def _from_run(url: str) -> list[Link]:
    """Return the chain up to the run whose output, or model on the hub, is ``url``; it may be unfinished."""
    has_model = storage.exists(join(url, MODEL)) and storage.exists(join(url, CARD))
    has_run = storage.exists(join(url, RUN))
    record = read_json(join(url, RUN)) if has_run else {}
    card = read_json(join(url, CARD)) if has_model else {}
    if "://" not in url:  # a model of the hub
        card = card_of(url) or {}
    finished = bool(card) and card.get("run") == record.get("run", card.get("run"))
    said = card if finished else record
    identity = said.get("identity")
    if not isinstance(identity, dict):
        return [Link("run", url, str(said.get("run")), {}, "its identity is not written there")]
    facts = {"finished": finished}
    if finished:
        facts |= {name: card.get(name) for name in ("fraction_asked", "fraction_delivered", "rollouts")}
    facts |= {"seed": identity.get("seed"), "selection": str(identity.get("selection"))[:16]}
    facts |= {name: identity[name] for name in RANKING if name in identity and name != "seed"}
    if EXCLUDE in identity:
        facts["excluded_ids"] = str(identity[EXCLUDE])[:16]
    facts |= {"backbone": said.get("backbone"), "contents": identity.get("backbone")}
    run = Link("run", url, str(said.get("run")), facts)
    index, fingerprint = said.get("index"), identity.get("index")
    if index is None or fingerprint is None:
        return [run]
    return [*_index_chain(index, fingerprint), run]


def _from_checkpoint(url: str) -> list[Link]:
    """Return the chain up to a checkpoint, ``OUTPUT/runs/NAME/checkpoint_…``."""
    cursor = read_json(join(url, CURSOR))
    output, _, run, _ = url.rsplit("/", 3)
    here = Link("checkpoint", url, f"step {cursor.get('step')}")
    if not storage.exists(join(output, RUN)):
        return [Link("run", output, run, {}, "no run.json there"), here]
    chain = _from_run(output)
    if chain[-1].name != run:
        return [Link("run", output, run, {}, f"the run there is {chain[-1].name} now"), here]
    return [*chain, here]


def _from_metrics(url: str) -> list[Link]:
    """Return the chain up to an evaluation."""
    return _from_scores("evaluation", url, read_json(join(url, METRICS)), ("benchmark", "solutions"))


def _from_picks(url: str) -> list[Link]:
    """Return the chain up to the picks of ``bisieve best-of``."""
    return _from_scores("picks", url, read_json(join(url, BEST_OF)), ("candidates", "questions", "aggregate"))


def _from_scores(kind: Kind, url: str, found: dict[str, Any], shown: Sequence[str]) -> list[Link]:
    """Return the chain up to what was made with a model, as its document tells; ``shown`` are its facts."""
    facts = {name: found.get(name) for name in shown}
    here = Link(kind, url, str(found.get("run") or "of a model that bisieve did not train"), facts)
    model = found.get("model")
    if not found.get("run"):
        return [here]
    try:
        chain = _from_run(str(model))
    except BisieveError as error:
        return [Link("run", str(model), str(found["run"]), {}, str(error)), here]
    if chain[-1].name != found["run"]:
        broken = f"the run there is {chain[-1].name} now"
        return [Link("run", str(model), str(found["run"]), {}, broken), here]
    return [*chain, here]


def _from_pointer(url: str) -> list[Link]:
    """Return the chain up to a pointer, which ``bisieve promote`` has written."""
    pointer = read_json(url)
    if not {"model", "metrics"} <= pointer.keys():
        raise TrainingError("a pointer with a model and its metrics", f"none at {url}", "check the URL")
    here = Link("pointer", url, str(pointer.get("run")), {"model": pointer["model"]})
    try:
        chain = _from_metrics(str(pointer["metrics"]).removesuffix(f"/{METRICS}"))
    except BisieveError as error:
        chain = [Link("evaluation", str(pointer["metrics"]), str(pointer.get("run")), {}, str(error))]
    return [*chain, here]


# Files that tell what a folder is, later links of a chain first: a run's output also holds a model.
_WALKS: dict[str, Callable[[str], list[Link]]] = {
    METRICS: _from_metrics,
    BEST_OF: _from_picks,
    CURSOR: _from_checkpoint,
    RUN: _from_run,
    CARD: _from_run,
    MANIFEST: _from_index,
}
# What a chain can end with, in words, and the files by which it is known.
STARTS: dict[Start, tuple[str, tuple[str, ...]]] = {
    "index": ("an index", (MANIFEST,)),
    "model": ("a run's output or a model", (RUN, CARD)),
    "checkpoint": ("a checkpoint, OUTPUT/runs/NAME/checkpoint_…", (CURSOR,)),
    "metrics": ("what bisieve evaluate wrote: the folder or metrics.json", (METRICS,)),
    "picks": ("what bisieve best-of wrote: the folder or best-of.json", (BEST_OF,)),
    "pointer": ("the JSON file of bisieve promote that names the current model", ()),
}
