"""``bisieve lineage``: show what an index, run, checkpoint, evaluation, picks or model was made from."""

import argparse

from bisieve import console
from bisieve.cli import options
from bisieve.cli.overview import TRAIN
from bisieve.cli.parser import add_config
from ray_train.registry.lineage import STARTS

GROUP = TRAIN
HELP = "show where an index, run, evaluation, picks or promoted model came from"
EXAMPLE = "bisieve lineage --model model"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.usage = f"%(prog)s ({' | '.join(f'--{name}' for name in STARTS)}) URL ..."
    start = parser.add_mutually_exclusive_group(required=True)
    for name, (what, _) in STARTS.items():
        start.add_argument(f"--{name}", metavar="URL", help=what)
    options.add_json(parser)
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Print the chain, the shards first; return 1 if a link of it is broken, else 0."""
    from ray_train.registry.lineage import as_json, as_text, chain_of

    ((start, url),) = [(name, url) for name in STARTS if (url := getattr(args, name))]
    chain = chain_of(url, start)
    if args.json:
        print(as_json(chain))
    else:
        console.show(as_text(chain))
    return int(any(link.broken for link in chain))
