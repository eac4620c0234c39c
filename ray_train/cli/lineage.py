"""``bisieve lineage``: show what an index, run, checkpoint, evaluation or model was made from."""

import argparse

from bisieve.cli.overview import TRAIN

GROUP = TRAIN
HELP = "show where an index, run, checkpoint, evaluation or promoted model came from"
EXAMPLE = "bisieve lineage model"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "url", metavar="URL",
        help="an index, a run's output or a model, a checkpoint, a metrics folder, or a pointer",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="the chain as one JSON document")


def run(args: argparse.Namespace) -> int:
    """Print the chain, the shards first; return 1 if a link of it is broken, else 0."""
    from ray_train.registry.lineage import as_json, as_text, chain_of

    chain = chain_of(args.url)
    print(as_json(chain) if args.json else as_text(chain))
    return int(any(link.broken for link in chain))
