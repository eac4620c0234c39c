"""``bisieve push``: publish a trained model on the Hugging Face hub."""

import argparse

from bisieve import console
from bisieve.cli.overview import TRAIN
from bisieve.cli.parser import Flag, add_config

GROUP = TRAIN
HELP = "upload a trained model with its page to the Hugging Face hub"
EXAMPLE = "bisieve push --model model --repo OWNER/NAME --private"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add = parser.add_argument
    add("--model", required=True, metavar="URL", help="folder that bisieve train wrote")
    add("--repo", required=True, metavar="OWNER/NAME", help="repository of the hub; made if it is missing")
    add("--private", action=Flag, help="make a new repository private")
    add("--revision", metavar="BRANCH", help="branch, which must exist (default: main)")
    add("--message", metavar="TEXT", help="message of the commit")
    add_config(parser)


def run(args: argparse.Namespace) -> int:
    """Upload the model and print the URL of the commit."""
    from ray_train.registry.push import push

    message = {"message": args.message} if args.message else {}
    console.show(push(args.model, args.repo, args.private, args.revision, **message))
    return 0
