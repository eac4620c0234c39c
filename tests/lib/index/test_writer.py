import pyarrow as pa
import pytest

from bisieve import schemas
from bisieve.index.manifest import CutoffScore, DataFile
from bisieve.index.writer import RankedFile, cutoff_scores_over_all, rejected_by_source, source_table
from bisieve.scan.chunks import Totals

TOTALS = Totals(
    sources={"ä": [2, 5, 1, 0, 1], "a": [3, 6, 0, 3, 0]},
    rejected={("b", "no_image"): 4, ("a", "no_steps"): 1, ("a", "bad_json"): 2},
)


def ranked(*cutoff_scores: tuple[str | None, float, int, float]) -> RankedFile:
    rows = [dict(zip(schemas.CUTOFF_SCORES.names, row, strict=True)) for row in cutoff_scores]
    return RankedFile(DataFile("", 0, 0, ""), [], pa.Table.from_pylist(rows, schemas.CUTOFF_SCORES))


def test_each_source_has_its_counts_its_rejects_and_where_its_selections_end() -> None:
    files = [ranked(("a", 0.5, 1, 0.3), ("a", 0.1, 1, 0.3)), ranked(("ä", 0.1, 1, 0.2))]
    rows = source_table(TOTALS, files).to_pylist()
    assert [row["source"] for row in rows] == ["a", "b", "ä"]
    assert [row["rollouts"] for row in rows] == [3, 0, 2]
    assert rows[0]["rejected"] == [
        {"reason": "bad_json", "records": 2},
        {"reason": "no_steps", "records": 1},
    ]
    ends = [[(end["fraction"], end["bis"]) for end in row["cutoff_scores"]] for row in rows]
    assert ends == [[(0.1, 0.3), (0.5, 0.3)], [], [(0.1, 0.2)]]
    assert cutoff_scores_over_all(files) == []


def test_cuts_over_all_belong_to_no_source() -> None:
    files = [ranked((None, 0.5, 2, 0.1)), ranked((None, 0.1, 1, 0.4))]
    assert source_table(TOTALS, files)["cutoff_scores"].to_pylist() == [[], [], []]
    assert cutoff_scores_over_all(files) == [CutoffScore(0.1, 1, 0.4), CutoffScore(0.5, 2, 0.1)]


@pytest.mark.parametrize("rejected", [TOTALS.rejected, {}], ids=["some", "none"])
def test_rejects_come_back_by_source_and_reason(rejected: dict[tuple[str, str], int]) -> None:
    table = source_table(Totals(TOTALS.sources, rejected), [])
    assert rejected_by_source(table) == rejected
