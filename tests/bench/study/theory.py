"""Check the paper's theory with numbers: gradient second moment, mixture bound, effective noise (App. F).

Each function of the theory has a measured counterpart, which samples what the theory assumes. `student` goes
one step further than the paper, which shows no simulation: it trains the linear student of its theory on
selections.

    PYTHONPATH=tests python -m bench.study.theory --output docs/assets/theory.vl.json
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, expit

from bisieve.scoring import score_rollouts

Floats: TypeAlias = npt.NDArray[np.float64]

N = 16  # continuations a step


def second_moment(q: Floats, eta: float) -> Floats:
    """Return E‖g‖²/‖φ‖² at the teacher, where labels are flipped with probability ``eta``."""
    return (1 - 4 * eta) * q * (1 - q) + eta


def measured_second_moment(
    q: float, eta: float, rng: np.random.Generator, width: int = 8, samples: int = 200_000
) -> float:
    """Return the mean of ‖g‖²/‖φ‖² over sampled labels; g is the gradient of the logistic loss by w."""
    features = rng.normal(size=width)
    weights = features * np.log(q / (1 - q)) / (features @ features)  # so that the teacher says q
    labels = (rng.random(samples) < q) ^ (rng.random(samples) < eta)
    gradients = (expit(features @ weights) - labels)[:, None] * features
    return float((gradients**2).sum(1).mean() / (features @ features))


def expected_mixture(q: Floats) -> float:
    """Return E[p(1−p) | q] by the paper's formula, for the teacher's q of the steps of one rollout."""
    mean, n = q.mean(), len(q)
    return float(mean * (1 - mean) - (q * (1 - q)).sum() / n**2)


def enumerated_mixture(q: Floats) -> float:
    """Return E[p(1−p) | q] as the sum over all 2ⁿ labellings of the rollout."""
    labels = np.array(list(product((0, 1), repeat=len(q))))
    chances = np.prod(np.where(labels == 1, q, 1 - q), axis=1)
    p = labels.mean(1)
    return float((chances * p * (1 - p)).sum())


def flipped(q: Floats, eta: float) -> Floats:
    """Return the chance of a positive label where labels are flipped with probability ``eta``."""
    return (1 - 2 * eta) * q + eta


def effective_noise(k: npt.NDArray[np.int64], a: float, b: float, tau: float) -> Floats:
    """Return P(r < τ | K = k) = I_τ(a + k, b + N − k) for a success rate r with the prior Beta(a, b)."""
    return np.asarray(betainc(a + k, b + N - k, tau))


def measured_noise(
    a: float, b: float, tau: float, rng: np.random.Generator, samples: int = 400_000
) -> Floats:
    """Return the share of r < τ among sampled steps with K = 0 … N."""
    rates = rng.beta(a, b, samples)
    counts = rng.binomial(N, rates)
    return np.array([(rates[counts == k] < tau).mean() for k in range(N + 1)])


STRATEGIES = ("random", "mixed", "reliable", "low_mc", "bis 0.05", "bis 0.2")
FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)


def student(
    rng: np.random.Generator, rollouts: int = 12_000, steps: int = 6, width: int = 16, tau: float = 0.3
) -> dict[tuple[str, float], float]:
    """Train the linear student on selections, one pass each; return its AUC on clean labels.

    The success rate of a step is r = sigmoid(⟨w*, φ⟩), where φ is a part that the steps of a rollout share
    plus a part of the step; K ~ Bin(N, r), and the label is K > 0. Clean labels are r ≥ τ. There is no
    position to learn, and errors are not absorbing.

    Returns:
        The AUC by strategy and fraction.
    """
    teacher = rng.normal(size=width)
    teacher *= 4 / np.linalg.norm(teacher)

    def sample(n: int) -> tuple[Floats, Floats]:
        shared, own = rng.normal(size=(n, 1, width)), rng.normal(size=(n, steps, width))
        features = 0.8 * shared + 0.6 * own
        return features, expit(features @ teacher + 5.0)

    features, rates = sample(rollouts)
    counts = rng.binomial(N, rates)
    labels = (counts > 0).astype(float)
    tested, tested_rates = sample(4_000)
    orders = _orders(counts / N, rng)
    found = {}
    for strategy, order in orders.items():
        for fraction in FRACTIONS:
            rows = rng.permutation(order[: int(rollouts * fraction)])
            weights = _one_pass(features[rows], labels[rows])
            found[strategy, fraction] = area((tested @ weights).ravel(), (tested_rates >= tau).ravel())
    return found


def _orders(scores: Floats, rng: np.random.Generator) -> dict[str, npt.NDArray[np.int64]]:
    """Return the rollouts by each strategy, best first, ties at random; ``scores`` is [rollouts, steps]."""
    rollouts, steps = scores.shape
    offsets = np.arange(rollouts + 1) * steps
    parts = {alpha: score_rollouts(scores.ravel(), offsets, alpha) for alpha in (0.05, 0.2)}
    p = parts[0.05].positive_fraction
    keys = {
        "random": np.zeros(rollouts), "mixed": p * (1 - p), "reliable": parts[0.05].reliability,
        "low_mc": -scores.mean(1), "bis 0.05": parts[0.05].bis, "bis 0.2": parts[0.2].bis,
    }  # fmt: skip
    return {name: np.lexsort((rng.random(rollouts), -key)) for name, key in keys.items()}


def _one_pass(features: Floats, labels: Floats, batch: int = 16, rate: float = 1.0) -> Floats:
    """Return the averaged weights of one pass of SGD with steps rate/√t on the logistic loss.

    The bias is not learned but that of the share of labels, which an AUC does not see.
    """
    weights, mean = np.zeros(features.shape[-1]), np.zeros(features.shape[-1])
    starts = range(0, len(features), batch)
    for number, start in enumerate(starts, start=1):
        x, y = features[start : start + batch], labels[start : start + batch]
        bias = np.log((labels.mean() + 1e-3) / (1 - labels.mean() + 1e-3))
        gradient = ((expit(x @ weights + bias) - y)[..., None] * x).mean((0, 1))
        weights = weights - rate / np.sqrt(number) * gradient
        mean += weights
    return mean / len(starts)


def area(scores: Floats, labels: npt.NDArray[np.bool_]) -> float:
    """Return the probability that a positive has a higher score than a negative."""
    ranks = np.empty(len(scores))
    ranks[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positive = labels.sum()
    return float(
        (ranks[labels].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive))
    )


def figure(seeds: int = 20) -> dict[str, Any]:
    """Return the figure as Vega-Lite: four panels, with their numbers inside."""
    rng = np.random.default_rng(0)
    moments = [
        {"q": q, "η": eta, "theory": float(second_moment(np.array(q), eta)),
         "measured": measured_second_moment(q, eta, rng)}
        for eta in (0.0, 0.1, 0.25, 0.4) for q in np.linspace(0.05, 0.95, 10).round(2).tolist()
    ]  # fmt: skip
    mixtures = []
    for n in (2, 3, 4, 6, 8, 10):
        q = rng.beta(2, 1, n)
        theta = q.mean() * (1 - q.mean())
        mixtures.append({"n": n, "measured": enumerated_mixture(q) / theta, "lower": 1 - 1 / n, "upper": 1.0})
    noise = [
        {"k": k, "prior": f"Beta({a:g}, {b:g})", "theory": float(theory), "measured": float(seen)}
        for a, b in ((1, 1), (4, 1), (1, 4))
        for k, (theory, seen) in enumerate(
            zip(effective_noise(np.arange(N + 1), a, b, 0.3), measured_noise(a, b, 0.3, rng), strict=True)
        )
    ]  # fmt: skip
    runs = [student(np.random.default_rng(seed)) for seed in range(seeds)]
    students = []
    for key in runs[0]:
        values = np.array([run[key] for run in runs])
        half = 1.96 * values.std(ddof=1) / np.sqrt(seeds)
        strategy, fraction = key
        students.append(
            {"strategy": strategy, "fraction": fraction, "AUC": values.mean(),
             "low": values.mean() - half, "high": values.mean() + half}
        )  # fmt: skip
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": "The paper's theory (App. F) against samples, and its linear student on selections",
        "columns": 2,
        "concat": [
            _panel("Gradient second moment: line theory, points measured", moments, "q", "η", "E‖g‖²/‖φ‖²"),
            _bounds(mixtures),
            _panel("Effective noise of a label with K = k of 16", noise, "k", "prior", "P(r < 0.3 | K = k)"),
            _students(students, seeds),
        ],
    }


def _panel(title: str, values: list[dict[str, Any]], x: str, color: str, y: str) -> dict[str, Any]:
    kinds = {"q": "quantitative", "k": "quantitative"}
    encoding = {"x": {"field": x, "type": kinds[x]}, "color": {"field": color, "type": "nominal"}}
    layers = [("line", "theory"), ("point", "measured")]
    return {
        "title": title, "data": {"values": values}, "encoding": encoding,
        "layer": [
            {"mark": mark, "encoding": {"y": {"field": field, "type": "quantitative", "title": y}}}
            for mark, field in layers
        ],
    }  # fmt: skip


def _bounds(values: list[dict[str, Any]]) -> dict[str, Any]:
    y = {"type": "quantitative", "title": "E[p(1−p)] / θ", "scale": {"zero": False}}
    return {
        "title": "Mixture of n steps: band theory, points all 2ⁿ labellings", "data": {"values": values},
        "encoding": {"x": {"field": "n", "type": "quantitative"}},
        "layer": [
            {"mark": {"type": "area", "opacity": 0.3},
             "encoding": {"y": {**y, "field": "lower"}, "y2": {"field": "upper"}}},
            {"mark": "point", "encoding": {"y": {**y, "field": "measured"}}},
        ],
    }  # fmt: skip


def _students(values: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    y = {"type": "quantitative", "title": "AUC on clean labels", "scale": {"zero": False}}
    return {
        "title": f"The linear student on selections, mean of {seeds} teachers", "data": {"values": values},
        "encoding": {
            "x": {"field": "fraction", "type": "quantitative", "scale": {"type": "log"}},
            "color": {"field": "strategy", "type": "nominal"},
        },
        "layer": [
            {"mark": {"type": "area", "opacity": 0.2},
             "encoding": {"y": {**y, "field": "low"}, "y2": {"field": "high"}}},
            {"mark": {"type": "line", "point": True}, "encoding": {"y": {**y, "field": "AUC"}}},
        ],
    }  # fmt: skip


def main() -> None:
    """Write the figure and print the numbers of its last panel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    args = parser.parse_args()
    drawn = figure(args.seeds)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(drawn, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for row in drawn["concat"][-1]["data"]["values"]:
        interval = f"[{row['low']:.4f}, {row['high']:.4f}]"
        print(f"{row['strategy']:9} {row['fraction']:5.0%}  {row['AUC']:.4f}  {interval}")


if __name__ == "__main__":
    main()
