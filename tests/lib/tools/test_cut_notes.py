"""What is said about a selection: its ties, and an α that the paper uses for other fractions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.handmade import DEFAULTS, Made, make_index

from bisieve.tools.cut_notes import cut_notes

MIXED, GOOD, FAIR = (1.0, 0.0), (1.0,), (0.5,)
ROLLOUTS = [Made("a", f"a-{n}", scores) for n, scores in enumerate([MIXED] * 2 + [GOOD] * 7 + [FAIR])]


FILE = "best 50%: 3 of 5 are ties at BIS 0.0500, chosen from 7 by file order; see --ties spread"
SPREAD = "best 50%: 3 of 5 are ties at BIS 0.0500, chosen from 7 question by question"
TENTH = "best 10%: 1 of 1 are ties at BIS 0.3000, chosen from 2 by file order; see --ties spread"
FOR_A_TENTH = (
    "best 10%: alpha is 0.05, the paper's for 10% is 0.2; bisieve rank --alpha 0.2 ranks again in seconds"
)
FOR_MORE = (
    "best 20%: alpha is 0.2, the paper's for 25% is 0.05; bisieve rank --alpha 0.05 ranks again in seconds"
)


@pytest.mark.parametrize(
    ("fraction", "options", "notes"),
    [
        (0.2, {}, []),
        (0.5, {}, [FILE]),
        (0.5, {"ties": "spread"}, [SPREAD]),
        (0.9, {}, []),
        (0.5, {"strategy": "random"}, []),
        (0.1, {}, [TENTH, FOR_A_TENTH]),
        (0.2, {"alpha": 0.2}, [FOR_MORE]),
    ],
)
def test_a_selection_has_these_notes(
    fraction: float, options: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    index = make_index(tmp_path, ROLLOUTS, replace(DEFAULTS, **options))
    assert cut_notes(index, fraction) == notes
