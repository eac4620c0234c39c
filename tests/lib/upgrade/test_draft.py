"""What the steps of an upgrade write, the next one reads; the store sees it when all are done."""

from pathlib import Path

import pyarrow as pa

from bisieve.upgrade.draft import Draft


def test_a_list_is_read_before_and_after_it_is_saved(tmp_path: Path) -> None:
    draft, table = Draft(f"file://{tmp_path}", "f" * 64), pa.table({"url": ["a", "b"]})
    file = draft.write("shards", 7, table)
    assert draft.read(file).equals(table)
    assert list(tmp_path.iterdir()) == []
    draft.save()
    assert Draft(draft.index, draft.fingerprint).read(file).equals(table)
    assert file["path"] == f"versions/{'f' * 16}/format-7/shards.parquet"
