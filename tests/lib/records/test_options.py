import json
from dataclasses import asdict

import pytest

from bisieve.errors import UsageError
from bisieve.records.decode import with_our_names
from bisieve.records.model import RolloutRecord, ScoredStep, StepRecord
from bisieve.records.options import FIELDS, ReadOptions


def test_every_field_of_a_record_can_be_renamed() -> None:
    kinds = (RolloutRecord, ScoredStep, StepRecord)
    assert set(FIELDS) == {name for kind in kinds for name in kind.__struct_fields__}


def test_it_comes_back_from_a_manifest() -> None:
    reading = ReadOptions("steps", "folder", None, {"step": "text"}, {"a": ""})
    assert ReadOptions(**json.loads(json.dumps(asdict(reading)))) == reading


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"fields": {"steps": "x"}}, "found steps;"),
        ({"fields": {"question": "text", "step": "text"}}, "found text as question and step"),
        ({"fields": {"question": "question_orig"}}, "found question_orig as question and question_orig"),
        ({"source_field": "image"}, "found image as image and source"),
        ({"fields": {"image": "set"}, "source_field": "set"}, "found set as image and source"),
        ({"source_from": "folder", "source_field": "set"}, "found both"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, object], found: str) -> None:
    with pytest.raises(UsageError, match=found):
        ReadOptions(**options)


def test_names_may_be_swapped_and_freed_ones_taken() -> None:
    swapped = ReadOptions(fields={"question": "question_orig", "question_orig": "question"})
    assert with_our_names({"question": 1, "question_orig": 2, "x": 3}, swapped) == {
        "question_orig": 1,
        "question": 2,
        "x": 3,
    }
    assert ReadOptions(fields={"image": "picture"}, source_field="image").names["source"] == "image"


def test_a_field_whose_name_is_taken_is_dropped_and_steps_are_renamed() -> None:
    reading = ReadOptions(fields={"question": "prompt", "steps_with_score": "steps", "step": "text"})
    record = {
        "question": "not this",
        "prompt": "What?",
        "steps": [{"text": "one", "score": 1}],
        "answer": "5",
    }
    assert with_our_names(record, reading) == {
        "question": "What?",
        "steps_with_score": [{"step": "one", "score": 1}],
        "answer": "5",
    }


@pytest.mark.parametrize(
    ("options", "source"),
    [({}, "part-0"), ({"source_from": "folder"}, "ai2d"), ({"source_field": "x"}, "part-0")],
)
def test_the_source_is_that_of_the_shard(options: dict[str, object], source: str) -> None:
    assert ReadOptions(**options).source_of("s3://bucket/ai2d/part-0.jsonl.gz") == source


@pytest.mark.parametrize(
    ("prefixes", "path"),
    [
        ({}, "s3://old/a/b.png"),
        ({"s3://old/": ""}, "a/b.png"),
        ({"s3://old/": "x/", "s3://old/a/": "y/", "s3://": "z/"}, "y/b.png"),
        ({"": "images/"}, "images/s3://old/a/b.png"),
        ({"b.png": "c.png"}, "s3://old/a/b.png"),
    ],
)
def test_the_longest_prefix_of_an_image_wins(prefixes: dict[str, str], path: str) -> None:
    assert ReadOptions(image_prefixes=prefixes).image_path("s3://old/a/b.png") == path
