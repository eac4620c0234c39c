"""The strategies by which rollouts can be ranked, a module each with a constant ``STRATEGY``; their options.

To add a strategy, add a module here; nothing else names it.  Its name is that of the module.
"""

from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from bisieve._text import did_you_mean
from bisieve.errors import UsageError
from bisieve.records.options import PAIR_SHARE, Parameters, check_ranking

if TYPE_CHECKING:
    from bisieve.ranking.strategies.base import Strategy

_SHARED = ("base",)  # modules that are no strategies


def strategy_names() -> tuple[str, ...]:
    """Return the names of all strategies, the default first; no module is imported."""
    names = {module.name for module in iter_modules(__path__)} - {*_SHARED}
    return ("bis", *sorted(names - {"bis"}))


@cache
def strategy_of(name: str) -> "Strategy":
    """Return the strategy ``name``; raise `UsageError` if it is unknown."""
    names = strategy_names()
    if name not in names:
        hint = did_you_mean(name, names) or "correct its name"
        raise UsageError(f"one of {', '.join(names)} as strategy", name, hint)
    found: Strategy = import_module(f"{__name__}.{name}").STRATEGY
    return found


def with_overrides(was: Parameters, given: dict[str, Any]) -> Parameters:
    """Return the parameters ``was`` with some fields replaced.

    If ``given`` names a strategy, the options that it does not have get their defaults: the tie rule of a
    strategy in random order, and the share of pairs of a strategy without pairs.

    Raises:
        UsageError: ``given`` has an option that the strategy does not have, or a value out of range.
    """
    check_ranking(given)
    if "strategy" in given:
        strategy = strategy_of(given["strategy"])
        if strategy.shuffled:
            given = {"ties": "file", **given}
        if PAIR_SHARE not in strategy.options:
            given = {PAIR_SHARE: 1.0, **given}
    asked = replace(was, **given)
    check_options(asked)
    return asked


def check_options(asked: Parameters) -> None:
    """Raise `UsageError` for a tie rule or a share of pairs that has no effect with the strategy."""
    strategy = strategy_of(asked.strategy)
    if strategy.shuffled and asked.ties != "file":
        raise UsageError(
            f"no --ties for an index of strategy {asked.strategy}",
            asked.ties,
            "omit --ties: this strategy orders ties randomly",
        )
    if PAIR_SHARE not in strategy.options and asked.pair_share != 1.0:
        raise UsageError("--pair-share with --strategy paired", asked.strategy, "leave out --pair-share")
