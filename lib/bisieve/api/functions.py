"""The functions of the public API that score a corpus, rank an index again and open one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from bisieve.api.index import Index
from bisieve.engines import Asked, choose_engine
from bisieve.events import EventSink, null_sink
from bisieve.index.versions import open_version
from bisieve.pipeline.rank import rank_index
from bisieve.pipeline.run import ScoreRequest, score_corpus
from bisieve.ranking.strategies import with_overrides
from bisieve.records.options import ReadOptions, check_ranking
from bisieve.scoring import DEFAULT_ALPHA, score_rollouts


def score_table(
    scores: Sequence[Sequence[float]], alpha: float = DEFAULT_ALPHA, threshold: float = 0.0
) -> pa.Table:
    """Return the score and its parts for rollouts in memory (paper §4).

    Args:
        scores: The MC scores of the steps of each rollout, in [0, 1].
        alpha: α of the score.
        threshold: A step is positive when its score exceeds it.

    Returns:
        Columns ``bis``, ``positive_fraction``, ``reliability`` (float64) and ``num_positive`` (int32), a row
        per rollout.

    Raises:
        ValueError: A rollout has no step, or a score is not in [0, 1].
    """
    offsets = np.cumsum([0, *(len(steps) for steps in scores)], dtype=np.int64)
    flat = np.array([value for steps in scores for value in steps], np.float64)
    return pa.table(score_rollouts(flat, offsets, alpha, threshold)._asdict())


def score(
    inputs: str | Sequence[str],
    index: str,
    *,
    alpha: float = DEFAULT_ALPHA,
    reading: ReadOptions | None = None,
    strict: bool = False,
    engine: Asked = "auto",
    progress: EventSink = null_sink,
    engine_options: dict[str, Any] | None = None,
    **ranking: Any,
) -> Index:
    """Score the rollouts of shards, rank them and publish the index.

    An index that is there already is brought up to date: only new and changed shards are read.

    Args:
        inputs: URLs of shards, folders or globs.
        index: URL of the index.
        alpha: α of the score; the paper uses 0.05 at 25 % and 0.2 at 10 %.
        reading: How records are read: field names, layout, sources.
        strict: Raise if an input has files of an unsupported kind.
        engine: "local", "spark", or "auto", which decides by the size of the input.
        progress: Receives the events of the run.
        engine_options: ``workers`` and ``limit`` of the local engine, ``master`` and ``conf`` of Spark.
        ranking: ``threshold``, ``strategy``, ``pair_share``, ``scope``, ``ties``, ``all_negative`` and
            ``seed``, as of ``bisieve score``.

    Raises:
        UsageError: A value is out of range, or has no effect with the strategy.
        CorpusError: The inputs hold no usable rollout, or a shard is damaged.
        StorageError: A store cannot be read or written.
    """
    check_ranking({"alpha": alpha, **ranking})
    request = ScoreRequest(
        inputs=(inputs,) if isinstance(inputs, str) else tuple(inputs), index=index, alpha=alpha,
        reading=reading or ReadOptions(), strict=strict, **ranking,
    )  # fmt: skip
    open_engine = choose_engine(engine, emit=progress, **(engine_options or {}))
    return _published(score_corpus(open_engine, request, progress), index)


def rerank(
    index: Index,
    output: str,
    *,
    engine: Asked = "auto",
    progress: EventSink = null_sink,
    engine_options: dict[str, Any] | None = None,
    **ranking: Any,
) -> Index:
    """Rank an index again with other parameters, without reading its shards, and publish the result.

    Args:
        index: The version to rank.
        output: URL of the new index; may be that of ``index``.
        engine: As of `score`.
        progress: As of `score`.
        engine_options: As of `score`.
        ranking: ``alpha``, and those of `score`, that change.

    Raises:
        UsageError: A value is out of range, or has no effect with the strategy.
        IndexUnusableError: A file of ``index`` is missing or damaged.
        StorageError: A store cannot be read or written.
    """
    parameters = with_overrides(index.parameters, ranking)
    open_engine = choose_engine(engine, emit=progress, **(engine_options or {}))
    return _published(rank_index(open_engine, index.opened, parameters, output, progress), output)


def _published(result: tuple[Any, bool], url: str) -> Index:
    opened, written = result
    return Index(opened, url, written)


def open_index(url: str, version: str | None = None) -> Index:
    """Open an index.

    Args:
        url: URL of the index.
        version: First digits of the fingerprint of a version; by default the current one.

    Raises:
        IndexUnusableError: There is no index, or not exactly one such version.
    """
    return Index(open_version(url, version), url)
