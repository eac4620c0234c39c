"""Options that mean something beside another one alone: without it they would be given and do nothing."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple


class Need(NamedTuple):
    """What an option needs to have an effect."""

    flag: str  # as it is asked for
    met: Callable[[Any], bool]  # by a config


BETA_BINOMIAL = Need("--objective beta-binomial", lambda config: config.objective == "beta-binomial")
ADAPTERS = Need("--lora-rank above 0", lambda config: config.lora_rank > 0)
ROWS = Need("--pack-tokens 0", lambda config: config.pack_tokens == 0)
VALIDATION = Need("--validation-fraction above 0", lambda config: config.validation_fraction > 0)
HARD_LABELS = Need(
    "--objective hard or --validation-fraction above 0",
    lambda config: config.objective == "hard" or config.validation_fraction > 0,
)


def idle_options(config: Any) -> dict[str, Need]:
    """The options of ``config`` that have no effect, whatever they say, each with what it would need."""
    needs = {item.name: item.metadata.get("needs") for item in dataclasses.fields(config)}
    return {name: need for name, need in needs.items() if need is not None and not need.met(config)}
