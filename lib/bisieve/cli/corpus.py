"""``bisieve corpus``: make a Monte-Carlo-annotated corpus of questions about handwritten digits."""

import argparse

from bisieve import console
from bisieve.cli.overview import SELECT
from bisieve.cli.parser import Flag, add_config
from bisieve.synthetic.corpus_config import CorpusConfig
from bisieve.synthetic.solver import Solver

GROUP = SELECT
HELP = "make a corpus of questions about handwritten digits with MC scores, and a benchmark"
EXAMPLE = "bisieve corpus --output corpus --rollouts 600 --benchmark 40"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options; their defaults are those of `CorpusConfig` and `Solver`."""
    defaults = CorpusConfig()
    add = parser.add_argument
    add("--output", required=True, metavar="URL", help="folder or prefix for shards, images and benchmark")
    add(
        "--rollouts",
        type=int,
        default=defaults.rollouts,
        metavar="N",
        help="rollouts of all sources (%(default)s)",
    )
    add(
        "--seed",
        type=int,
        default=defaults.seed,
        metavar="N",
        help="seed of all random choices (%(default)s)",
    )
    add(
        "--layout",
        choices=("rollouts", "steps"),
        default=defaults.layout,
        help="one record a rollout, or one a step, in random order (%(default)s)",
    )
    add(
        "--shard-rollouts",
        type=int,
        metavar="N",
        help="rollouts a shard (default: one shard a source, named after it; "
        "with more, score with --source-field source)",
    )
    add("--images", type=int, default=defaults.images, metavar="N", help="distinct images (%(default)s)")
    add(
        "--rollouts-per-question",
        type=int,
        default=defaults.rollouts_per_question,
        metavar="N",
        help="sampled for each question (%(default)s)",
    )
    add(
        "--continuations",
        type=int,
        default=defaults.continuations,
        metavar="K",
        help="sampled from every prefix (%(default)s)",
    )
    add(
        "--early-stop",
        action=Flag,
        help="sample nothing after a step with score 0: later steps have 0 of 0, as in VisualPRM",
    )
    add(
        "--any-order",
        action=Flag,
        help="each solution reads the picture in an order of its own, so that right solutions differ, too",
    )
    add(
        "--mistake-rate",
        type=float,
        default=defaults.solver.mistake_rate,
        metavar="P",
        help="chance to misread an average digit (%(default)s: about 91%% all-positive rollouts; "
        "0.08: about 81%%, 0.2: about 71%%)",
    )
    add(
        "--correction-rate",
        type=float,
        default=defaults.solver.correction_rate,
        metavar="P",
        help="chance, each step, to correct an earlier mistake (%(default)s)",
    )
    add(
        "--benchmark",
        type=int,
        default=defaults.benchmark,
        metavar="N",
        help="held-out rollouts with true step labels (%(default)s)",
    )
    add(
        "--candidates",
        type=int,
        default=defaults.candidates,
        metavar="N",
        help="held-out questions with several responses, for bisieve best-of (%(default)s)",
    )
    add(
        "--responses",
        type=int,
        default=defaults.responses,
        metavar="N",
        help="responses to each of these questions (%(default)s)",
    )
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Write the corpus, unless the same one is there already, and print its numbers per source."""
    from bisieve.events import events_on_stderr, log_format
    from bisieve.io.urls import canonical
    from bisieve.synthetic.corpus import table, write_corpus

    config = CorpusConfig(
        rollouts=args.rollouts,
        seed=args.seed,
        layout=args.layout,
        shard_rollouts=args.shard_rollouts,
        images=args.images,
        rollouts_per_question=args.rollouts_per_question,
        continuations=args.continuations,
        early_stop=args.early_stop,
        any_order=args.any_order,
        solver=Solver(args.mistake_rate, args.correction_rate),
        benchmark=args.benchmark,
        candidates=args.candidates,
        responses=args.responses,
    )
    output = canonical(args.output)
    with events_on_stderr(log_format(None)) as emit:
        written = write_corpus(output, config, emit)
    console.show(table(written.tallies))
    console.show(f"corpus {'written to' if written.made_now else 'already at'} {output}")
    return 0
