"""The plan of a benchmark: contenders, cases and requirements, as a TOML file states them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Contender:
    """A command that scores a corpus."""

    name: str
    command: str  # may name {input}, {output}, {events}, {master}, {bench} and {size}
    workers: int = 0  # one-core workers of a standalone Spark cluster to start for it


@dataclass(frozen=True)
class Case:
    """Contenders that do the same work on the same files."""

    name: str
    contenders: tuple[str, ...]  # the first one's result is what the others must agree with
    sizes: tuple[float, ...]  # 1 is VisualPRM400K-v1.1-Raw: 565,096 rollouts
    corpus: str | None = None  # one of corpora.MAKERS; None: the command needs no corpus
    repeats: int = 1  # the run of median wall time counts
    repeats_up_to: float = 1.0  # sizes above are run once
    agrees_with: str | None = None  # another case whose first contender must find the same ranks and scores


@dataclass(frozen=True)
class Requirement:
    """A bound on ``value``, or on ``value / over``.

    Measurements are named ``case/size/contender/metric``; of several names the least favourable counts.
    """

    says: str
    value: tuple[str, ...]
    over: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every measurement that it needs."""
        return self.value if self.over is None else (*self.value, self.over)


@dataclass(frozen=True)
class Plan:
    """What to run and what has to hold."""

    contenders: dict[str, Contender]
    cases: tuple[Case, ...]
    requirements: tuple[Requirement, ...]

    def only(self, cases: list[str], sizes: list[float]) -> "Plan":
        """The plan with some of its cases and sizes; no names: all.  `ValueError` for a wrong one."""
        if unknown := set(cases) - {case.name for case in self.cases}:
            raise ValueError(f"no case {', '.join(sorted(unknown))} in the plan")
        chosen = []
        for case in self.cases:
            left = tuple(size for size in case.sizes if not sizes or size in sizes)
            if left and (not cases or case.name in cases):
                chosen.append(Case(**{**vars(case), "sizes": left}))
        return Plan(self.contenders, tuple(chosen), self.requirements)


def size_name(size: float) -> str:
    """How a size is named in measurements: ``0.1x``, ``10x``."""
    return f"{size:g}x"


def read_plan(path: Path) -> Plan:
    """The plan at ``path``; `ValueError` where a case or a requirement names what the plan does not have."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    contenders = {name: Contender(name, **fields) for name, fields in content["contenders"].items()}
    cases = tuple(Case(**_frozen(fields)) for fields in content["case"])
    requirements = tuple(_requirement(fields) for fields in content["requirement"])
    known = {
        f"{case.name}/{size_name(size)}/{name}"
        for case in cases
        for size in case.sizes
        for name in case.contenders
    }
    for case in cases:
        if unknown := set(case.contenders) - set(contenders):
            raise ValueError(f"case {case.name} names no contender of the plan: {', '.join(sorted(unknown))}")
    for requirement in requirements:
        if lost := [name for name in requirement.names if name.rpartition("/")[0] not in known]:
            raise ValueError(f"{requirement.says!r} needs what no case measures: {', '.join(lost)}")
    return Plan(contenders, cases, requirements)


def _frozen(fields: dict[str, object]) -> dict[str, object]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _requirement(fields: dict[str, object]) -> Requirement:
    value = fields.pop("value")
    requirement = Requirement(value=(value,) if isinstance(value, str) else tuple(value), **fields)
    if (requirement.at_least is None) == (requirement.at_most is None):
        raise ValueError(f"{requirement.says!r} must have either at_least or at_most")
    return requirement
