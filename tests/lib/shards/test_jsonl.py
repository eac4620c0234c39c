import lzma
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from support.forms import COMPRESS

from bisieve.errors import CorpusError
from bisieve.io.read import RetryingFile
from bisieve.io.storage import write_bytes
from bisieve.shards.jsonl import open_text, read_blocks

TEXTS = st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=12)


@given(TEXTS, st.booleans(), st.integers(1, 40), st.integers(1, 16))
@example([b"one", b"", b"three"], True, 4, 2)
def test_every_line_belongs_to_exactly_one_range(
    tmp_path_factory, lines: list[bytes], ends_with_newline: bool, split: int, block: int
) -> None:
    data = b"\n".join(lines) + (b"\n" if ends_with_newline else b"")
    assume(not data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"[", b"{")))
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
    read = RetryingFile.read
    monkeypatch.setattr(RetryingFile, "read", lambda file, size: (asked.append(size), read(file, size))[1])
    blocks = list(read_blocks(f"{s3}/lines/a", 0, len(data), 100_000))
    assert b"\n".join(block.data for block in blocks) + b"\n" == data
    assert [block.offset for block in blocks[1:]] == [
        block.offset + len(block.data) + 1 for block in blocks[:-1]
    ]
    assert max(len(block.data) for block in blocks) < 210_000
    assert asked == [len(data)]


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[{"a": 1}, {"b": 2}]', "a JSON array, not JSON lines"),
        ('\ufeff[\n  {"a": 1},\n  {"b": 2}\n]', "a JSON array, not JSON lines"),
        ('{\n  "a": 1\n}', "a JSON object over several lines"),
        ('{\r\n  "a": 1\r\n}', "a JSON object over several lines"),
    ],
)
def test_a_file_that_holds_no_json_lines_is_named_for_what_it_is(
    tmp_path: Path, suffix: str, text: str, named: str
) -> None:
    (tmp_path / f"a.jsonl{suffix}").write_bytes(COMPRESS[suffix](text.encode()))
    with pytest.raises(CorpusError, match=named):
        list(read_blocks(str(tmp_path / f"a.jsonl{suffix}"), 0, 10**9))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_text_in_utf_16_is_named(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    (tmp_path / "a.jsonl").write_bytes((mark + '{"a": 1}\n').encode(encoding))
    with pytest.raises(CorpusError, match="UTF-16"):
        list(read_blocks(str(tmp_path / "a.jsonl"), 0, 10**9))


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".bz2", ".xz"])
@pytest.mark.parametrize("harm", ["cut", "second stream", "other bytes behind"])
def test_a_damaged_compressed_file_is_never_taken_for_a_shorter_one(
    tmp_path: Path, suffix: str, harm: str
) -> None:
    one = COMPRESS[suffix](b"one\n" * 1000)
    data = {
        "cut": one + one[:-6],
        "second stream": one + b"XX" + one[2:],
        "other bytes behind": one + b"no stream at all",
    }[harm]
    (tmp_path / f"a.jsonl{suffix}").write_bytes(data)
    with pytest.raises(CorpusError, match=r"a whole .* file"):
        list(read_blocks(str(tmp_path / f"a.jsonl{suffix}"), 0, 10**9))


def test_zeros_may_stand_between_streams_of_xz(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.xz").write_bytes(
        b"\0\0\0\0".join([lzma.compress(b"one\n"), lzma.compress(b"two\n"), b""])
    )
    with open_text(str(tmp_path / "a.jsonl.xz")) as text:
        assert text.read(100) == b"one\ntwo\n"


def test_a_window_that_is_too_wide_for_the_decoder_is_named(tmp_path: Path) -> None:
    magic, no_flags, window_of_2_gib = b"\x28\xb5\x2f\xfd", b"\0", bytes([(31 - 10) << 3])
    last_raw_block = (4 << 3 | 1).to_bytes(3, "little") + b"one\n"
    (tmp_path / "a.jsonl.zst").write_bytes(magic + no_flags + window_of_2_gib + last_raw_block)
    with pytest.raises(CorpusError, match=r"at most 128 MiB .*; recompress it: zstd -dc --long=31"):
        list(read_blocks(str(tmp_path / "a.jsonl.zst"), 0, 10**9))
