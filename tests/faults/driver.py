"""Scores what it is asked for on a Spark of its own: a JSON line in, a JSON line out.

python driver.py MASTER CONF      CONF: Spark's configuration as a JSON object
"""

import json
import sys
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import mishaps

from bisieve.errors import BisieveError
from bisieve.pipeline.run import ScoreRequest, score_corpus
from bisieve.spark.engine import engine_on
from bisieve.spark.session import spark_context


def main() -> None:
    with spark_context(sys.argv[1], json.loads(sys.argv[2])) as context:
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(context, **json.loads(line))), flush=True)


def answer(
    context: Any,
    inputs: str,
    index: str,
    options: Any,
    constants: Any,
    mishap: str | None,
    marker: str,
) -> str | None:
    """The error of one run; None where it went well."""
    request = ScoreRequest((inputs,), index, **{"alpha": 0.05, **options})
    with ExitStack() as patched:
        for constant, value in constants.items():
            patched.enter_context(patch(constant, value))
        if mishap is not None:
            patched.enter_context(getattr(mishaps, mishap)(marker))
        try:
            score_corpus(lambda size: engine_on(context), request)
        except BisieveError as error:
            return str(error)
    return None


if __name__ == "__main__":
    main()
