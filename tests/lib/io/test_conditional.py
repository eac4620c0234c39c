"""Compare-and-swap of small files."""

from pathlib import Path

from bisieve.io.conditional import read_pointer, replace_pointer


def test_a_pointer_is_alone_in_its_folder(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/new/pointer.json"
    replace_pointer(read_pointer(url), b"{}")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pointer.json"]
