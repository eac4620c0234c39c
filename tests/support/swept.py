"""A sweep with made-up results, and its files."""

from pathlib import Path

import msgspec

from ray_train.sweeps.answer import Cell, answers, with_warnings
from ray_train.sweeps.config import SweepConfig, Values
from ray_train.sweeps.run import SweepResult

CONFIG = SweepConfig(
    index="index", image_root="images", backbone="b", benchmark="b.jsonl", output="o",
    fractions=Values((0.1, 0.25, 1.0)),
)  # fmt: skip
CELLS = [
    Cell("bis", "0.05", "hard", 0.1, 1200, (0.81, 0.812, 0.814)),
    Cell("bis", "0.05", "hard", 0.25, 3000, (0.83, 0.832, 0.834)),
    Cell("random", "", "hard", 0.1, 1200, (0.7,)),
    Cell("all", "", "hard", 1.0, 12000, (0.829, 0.831, 0.833)),
]
AVAILABLE = 12_000  # rollouts of the index


def write_sweep(folder: Path, cells: list[Cell], position: float | None = None) -> str:
    """The output of a sweep: its answer alone."""
    found = answers(cells, AVAILABLE, CONFIG.delta, CONFIG.confidence)
    found = with_warnings(found, found, position)
    folder.mkdir(parents=True)
    document = SweepResult(CONFIG, sum(len(cell.values) for cell in cells), cells, found, position).numbers()
    (folder / "sweep.json").write_bytes(msgspec.json.encode(document))
    return str(folder)
