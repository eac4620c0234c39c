"""Reads, listings and writes on a store that fails now and then: whole, or one line."""

import gzip
import logging
import os
from pathlib import Path

import fsspec.config
import pytest
from support.faulty_proxy import FAULTS, FaultyProxy

from bisieve.errors import StorageError
from bisieve.io.conditional import Pointer, read_pointer, replace_pointer
from bisieve.io.read import read_ranges
from bisieve.io.storage import list_files, read_bytes, remove, write_bytes
from bisieve.shards.jsonl import read_blocks

TEXT = b"".join(b"line %05d\n" % number for number in range(10_000))


@pytest.fixture
def folder(
    s3: str, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 0.5}})
    faulty_s3.stall = 1.0
    return f"{s3}/{request.function.__name__}"


def lines_of(url: str, size: int) -> bytes:
    split = size // 4
    ranges = [(start, min(start + split, size)) for start in range(0, size, split)]
    found = [
        line
        for start, end in ranges
        for some in read_blocks(url, start, end, 2**14)
        for line in some.data.split(b"\n")
    ]
    return b"".join(line + b"\n" for line in found)


def test_what_passes_by_itself_is_never_seen(folder: str, faulty_s3: FaultyProxy) -> None:
    faulty_s3.harm(0.3)
    write_bytes(f"{folder}/a.jsonl", TEXT)
    write_bytes(f"{folder}/b.jsonl.gz", gzip.compress(TEXT))
    old = read_pointer(f"{folder}/pointer")
    for turn in (b"one", b"two", b"three"):
        replace_pointer(old, turn)
        old = read_pointer(f"{folder}/pointer")
        assert old.data == turn
    assert [file.size for file in list_files(folder) if file.url.endswith("a.jsonl")] == [len(TEXT)]
    assert lines_of(f"{folder}/a.jsonl", len(TEXT)) == TEXT
    assert read_bytes(f"{folder}/a.jsonl") == TEXT
    starts = list(range(0, len(TEXT), 8000))
    assert b"".join(read_ranges(f"{folder}/a.jsonl", starts, [*starts[1:], len(TEXT)])) == TEXT
    (some,) = read_blocks(f"{folder}/b.jsonl.gz", 0, 2**40)
    assert some.data + b"\n" == TEXT
    remove([f"{folder}/a.jsonl", f"{folder}/b.jsonl.gz"])
    assert [file.url for file in list_files(folder)] == [f"{folder}/pointer"]
    assert set(faulty_s3.faults()) == set(FAULTS)


@pytest.mark.parametrize("fault", ["503", "cut"])
def test_what_does_not_pass_is_one_line(
    folder: str, faulty_s3: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    write_bytes(f"{folder}/a", TEXT)
    faulty_s3.harm(1, [fault], only=lambda method, _: method == "GET")
    with pytest.raises(StorageError, match=f"response from the store of {folder}/a") as caught:
        read_ranges(f"{folder}/a", [0, 100], [100, 200])
    assert "\n" not in str(caught.value)


def test_an_answer_that_is_too_short_is_never_the_end_of_the_file(
    folder: str, faulty_s3: FaultyProxy
) -> None:
    text = TEXT[:5500]
    write_bytes(f"{folder}/a", text)
    faulty_s3.harm(1, ["short"])
    assert lines_of(f"{folder}/a", len(text)) == text
    with pytest.raises(StorageError, match="50 of 100 bytes"):
        read_ranges(f"{folder}/a", [0], [100])


def test_a_file_that_shrinks_while_it_is_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(TEXT)
    lines = read_blocks(str(path), 0, len(TEXT), 2**14)
    next(lines)
    os.truncate(path, 50_000)
    with pytest.raises(StorageError, match=rf"expected {len(TEXT)} bytes in .*; found only 50000;"):
        list(lines)


def test_a_file_that_is_replaced_while_it_is_read_is_told(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bisieve.shards.jsonl.REQUEST", 2**14)  # or the whole file would come at once
    write_bytes(f"{folder}/a", TEXT)
    lines = read_blocks(f"{folder}/a", 0, len(TEXT), 2**14)
    next(lines)
    write_bytes(f"{folder}/a", TEXT[::-1])
    with pytest.raises(StorageError, match="unchanged while it is read; found that it was replaced"):
        list(lines)


def test_a_writer_whose_answer_was_lost_has_won(folder: str, faulty_s3: FaultyProxy) -> None:
    old = read_pointer(f"{folder}/pointer")
    first = iter([True])
    faulty_s3.harm(1, ["lost"], only=lambda method, _: method == "PUT" and next(first, False))
    replace_pointer(old, b"mine")
    assert faulty_s3.faults() == {"lost": 1}
    assert read_pointer(f"{folder}/pointer").data == b"mine"
    with pytest.raises(StorageError, match="found a version written by another run"):
        replace_pointer(Pointer(old.url, None, None), b"of another")


def test_every_retry_of_a_request_is_said_with_its_number_and_reason(
    folder: str, faulty_s3: FaultyProxy, caplog: pytest.LogCaptureFixture
) -> None:
    write_bytes(f"{folder}/a", TEXT)
    refusals = iter([True, True])
    faulty_s3.harm(1, ["503"], only=lambda method, _: method == "GET" and next(refusals, False))
    with caplog.at_level(logging.WARNING, "bisieve.retries"):
        assert read_bytes(f"{folder}/a") == TEXT
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(", after ")[0] for line in said] == [
        "S3 GetObject: try 2 now",
        "S3 GetObject: try 3 now",
    ]
    assert all("after ClientError: " in line and line.endswith(": harmed") for line in said)
