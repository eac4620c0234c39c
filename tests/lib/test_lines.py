from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bisieve.lines import read_blocks
from bisieve.storage import write_bytes
from bisieve.whole import WholeFile

TEXTS = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=12)


@given(TEXTS, st.booleans(), st.integers(1, 40), st.integers(1, 16))
@example([b"one", b"", b"three"], True, 4, 2)
def test_every_line_belongs_to_exactly_one_range(
    tmp_path_factory, lines: list[bytes], ends_with_newline: bool, split: int, block: int
) -> None:
    data = b"\n".join(lines) + (b"\n" if ends_with_newline else b"")
    path = tmp_path_factory.getbasetemp() / "lines"
    path.write_bytes(data)
    found = []
    for start in range(0, len(data), split):
        for offset, some in read_blocks(str(path), start, min(start + split, len(data)), block):
            for line in some.split(b"\n"):
                assert start <= offset < start + split
                assert data[offset : offset + len(line)] == line
                found.append(line)
                offset += len(line) + 1
    expected = data.split(b"\n")
    assert found == (expected[:-1] if expected[-1] == b"" else expected)


def test_only_the_newline_ends_a_line(tmp_path: Path) -> None:
    text = "a\u2028b\x85c\x0bd\x1ce\rf\n"
    (tmp_path / "x").write_text(text, encoding="utf-8", newline="")
    assert [some.data for some in read_blocks(str(tmp_path / "x"), 0, 100)] == [text[:-1].encode()]


def test_a_line_longer_than_blocks_and_splits_stays_whole(tmp_path: Path) -> None:
    long = b"x" * 5_000_000
    (tmp_path / "x").write_bytes(b"a\n" + long + b"\nb\n")
    found = [
        line
        for start in range(0, 5_000_005, 1_000_000)
        for some in read_blocks(str(tmp_path / "x"), start, min(start + 1_000_000, 5_000_005), 100_000)
        for line in some.data.split(b"\n")
    ]
    assert found == [b"a", long, b"b"]


def test_a_store_is_asked_for_more_than_a_block_at_once(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(b"%d\n" % number * 9 for number in range(50_000))
    write_bytes(f"{s3}/lines/a", data)
    asked = []
    read = WholeFile.read
    monkeypatch.setattr(WholeFile, "read", lambda file, size: (asked.append(size), read(file, size))[1])
    blocks = list(read_blocks(f"{s3}/lines/a", 0, len(data), 100_000))
    assert b"\n".join(block.data for block in blocks) + b"\n" == data
    assert [block.offset for block in blocks[1:]] == [
        block.offset + len(block.data) + 1 for block in blocks[:-1]
    ]
    assert max(len(block.data) for block in blocks) < 210_000
    assert asked == [len(data)]
