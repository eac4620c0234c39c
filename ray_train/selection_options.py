"""Options of a selection that a run may make by other rules than those that its index is ranked by.

Each is a text, so that a config file can hold `AS_INDEX` beside a number.
"""

from collections.abc import Callable
from typing import Any

from bisieve._text import did_you_mean
from bisieve.errors import UsageError
from bisieve.ranking.strategies import strategy_names
from bisieve.records.options import AUTO, check_ranking

AS_INDEX = "index"  # as the index is ranked
_NUMBERS = ("alpha", "threshold", "pair_share")
_OPTIONS = ("strategy", *_NUMBERS, "ties", "all_negative")
_SEED = "selection_seed"  # the ranking's option "seed": training has another seed of its own


def number_or(*words: str) -> Callable[[Any], str]:
    """Return a function that parses a number or one of ``words``, and returns it as a text."""

    def parse(given: Any) -> str:
        if given in words:
            return str(given)
        if isinstance(given, bool):
            raise ValueError(f"neither a number nor {' or '.join(words)}: {given!r}")
        return repr(float(given))

    parse.__name__ = " or ".join(("number", *words))  # shown by argparse
    return parse


def seed_or_index(given: Any) -> str:
    """Return a seed as a text, or `AS_INDEX`; raise `ValueError` for anything else."""
    if given != AS_INDEX and (isinstance(given, bool | float) or int(given) < 0):
        raise ValueError(f"neither {AS_INDEX} nor an integer from 0 on: {given!r}")
    return str(given)


seed_or_index.__name__ = f"seed, an integer from 0 on, or {AS_INDEX}"  # shown by argparse


def strategy_or_index(given: Any) -> str:
    """Return the name of a strategy, or `AS_INDEX`; raise `UsageError` for anything else."""
    known = (AS_INDEX, *strategy_names())
    if given not in known:
        hint = did_you_mean(str(given), known) or "correct its name"
        raise UsageError(f"one of {', '.join(known)} as strategy", str(given), hint)
    return str(given)


def selection_options(config: Any) -> dict[str, Any]:
    """Return the options of a selection that are not `AS_INDEX`, by name, with numbers as such."""
    given = {name: value for name in _OPTIONS if (value := getattr(config, name)) != AS_INDEX}
    seed = getattr(config, _SEED)
    return {
        name: float(value) if name in _NUMBERS and value != AUTO else value for name, value in given.items()
    } | ({} if seed == AS_INDEX else {"seed": int(seed)})


def check_selection_options(config: Any) -> None:
    """Check the values of the options of a selection.

    Raises:
        UsageError: A value is out of range.
    """
    check_ranking({name: value for name, value in selection_options(config).items() if value != AUTO})
