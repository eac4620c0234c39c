"""The numbers of a report are those that plain Python counts in the rows of the index."""

import base64
import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.reported import make_reported

import bisieve
from bisieve.cli.main import main
from bisieve.errors import UsageError
from bisieve.index.exclusion import exclusion_of
from bisieve.index.reader import open_index
from bisieve.index.selection import select
from bisieve.index.statistics import statistics_of
from bisieve.report import rows, what_if
from bisieve.report.collect import IndexReport, collect
from bisieve.report.examples import step_labels
from bisieve.report.html import plain
from bisieve.report.index_charts import parts_chart, score_chart
from bisieve.report.index_page import index_page
from bisieve.report.verdict import verdict

FRACTION = 0.25
ASKED: list[dict[str, Any]] = [{}, {"alpha": 0.2}, {"strategy": "random"}, {"all_negative": "drop"}]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, score: Callable[..., Any]) -> str:
    return make_reported(tmp_path_factory.mktemp("corpus"), score)[0]


def reported(url: str, asked: dict[str, Any], **options: Any) -> IndexReport:
    return collect(open_index(url), url, FRACTION, asked, **options)


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_counts_are_those_of_the_rows(index: str, asked: dict[str, Any]) -> None:
    opened = open_index(index)
    kept = select(opened, FRACTION, asked).rows.to_pylist()
    rows = select(
        opened, 1.0, {**asked, "all_negative": "keep"} if asked.get("all_negative") else asked
    ).rows.to_pylist()
    found = plain(reported(index, asked).numbers())
    for name, expected in (("corpus", rows), ("selection", kept)):
        assert found[name]["rollouts"] == len(expected)
        questions = Counter(Counter(row["question_id"] for row in expected).values())
        assert found[name]["questions_by_rollouts"][:6] == [questions.get(n, 0) for n in range(1, 7)]
        steps = Counter((place, value > 0) for row in expected for place, value in enumerate(row["scores"]))
        assert found[name]["labels_by_step"][:6] == [[steps[n, False], steps[n, True]] for n in range(6)]
        bins = np.histogram([row["bis"] for row in expected], found["bis_edges"])[0]
        assert sum(found[name]["bis"]) == len(expected)
        assert np.abs(np.cumsum(bins) - np.cumsum(found[name]["bis"])).max() <= sum(
            min(abs(row["bis"] - edge) for edge in found["bis_edges"]) < 1e-9 for row in expected
        )  # those on an edge may be on either side of it
        alpha = found["parameters"]["alpha"]
        assert found["at_alpha"][name] == sum(row["bis"] == alpha for row in expected)
        assert np.sum(found[name]["mixture_by_reliability"]) == len(expected)
        assert np.sum(found[name]["mc_scores_by_step"]) == sum(row["num_steps"] for row in expected)
    for source in found["sources"]:
        mine = [row for row in kept if row["source"] == source["source"]]
        assert source["selection"]["rollouts"] == len(mine)
        assert source["selection"]["negative_steps"] == sum(
            row["num_steps"] - row["num_positive"] for row in mine
        )
        assert source["lowest_bis"] == min(row["bis"] for row in mine)
        assert source["rejected"] == 2
    for name in ("corpus", "selection"):
        of_sources = list(found[name]["bis_of_largest_sources"].values())
        assert np.sum(of_sources, axis=0).tolist() == found[name]["bis"]
        assert [sum(bins) for bins in of_sources] == [source[name]["rollouts"] for source in found["sources"]]


@pytest.mark.parametrize("scope", ["source", "global"])
def test_another_fraction_or_alpha_keeps_what_that_selection_has(
    tmp_path: Path, score: Callable[..., Any], scope: str
) -> None:
    url, _ = make_reported(tmp_path, score, scope=scope)
    opened = open_index(url)
    found = reported(url, {}).what_if
    assert found is not None
    assert found.one_in == 1
    for alpha, row in zip(found.alphas, found.found, strict=True):
        for fraction, its in zip(found.fractions, row, strict=True):
            expected = statistics_of(select(opened, fraction, {"alpha": alpha}).rows)
            if alpha == 0.05:
                assert its.numbers() == expected.numbers()
            else:  # ties are in the order of the index
                assert (its.rollouts, its.mixed) == (expected.rollouts, expected.mixed)


def test_over_all_sources_there_is_one_cutoff(
    tmp_path: Path, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    write_jsonl("corpus/better.jsonl", [rollout([1.0, 0.0]), rollout([1.0, 0.0])])
    write_jsonl("corpus/worse.jsonl", [rollout([1.0, 1.0, 0.0]), *(rollout([1.0]) for _ in range(9))])
    score(tmp_path / "corpus", tmp_path / "index", scope="global")
    counts = reported(str(tmp_path / "index"), {}).counts
    assert counts.lowest.round(4).tolist() == [0.3, 0.2722]
    lowest = counts.lowest.min()
    assert [counts.cutoffs(name).tolist() for name in (None, *counts.names)] == [[lowest]] * 3
    rules = score_chart(counts, True).spec["layer"][1]["data"]["values"]
    assert [rule["label"] for rule in rules if "cutoff" in rule["label"]] == [f"cutoff {lowest:.4f}"] * 3
    assert parts_chart(counts, True).note.endswith("dashed: where the BIS is that of the cutoff.")


def test_a_large_index_is_sampled_by_whole_questions(index: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what_if, "SAMPLE", 30)
    found = reported(index, {}).what_if
    assert found is not None
    assert found.one_in == 3
    assert 0 < found.sampled < 80
    assert found.sampled == 4 * found.questions  # each question has four rollouts
    assert "differ a little" in str(index_page(reported(index, {})))


@pytest.mark.parametrize("chosen", [0, 1], ids=["all of them", "none of them"])
def test_a_large_index_of_few_questions_is_reported_without_other_fractions(
    chosen: int, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(what_if, "SAMPLE", 1)
    monkeypatch.setattr(what_if, "question_hashes", lambda ids, seed: np.full(len(ids), chosen, np.uint64))
    report = reported(index, {})
    assert report.numbers()["what_if"] is None
    assert "only one question in 80 is looked at, and this index has too few." in str(index_page(report))


def test_an_index_that_is_too_large_is_not_ranked_by_other_options(
    index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_IN_MEMORY", 79)
    assert reported(index, {}).view.in_memory is None
    assert reported(index, {"alpha": 0.05}).view.in_memory is None  # as the index is ranked
    expected = "expected an index of at most 79 rollouts, to report it by other options; found 80; "
    for asked, hint in (
        ({"alpha": 0.2, "ties": "hash"}, "bisieve rank --index .* --output NEW --alpha 0.2 --ties hash, and"),
        ({"alpha": "auto"}, "bisieve report without --html says which alpha it is"),
    ):
        with pytest.raises(UsageError, match=f"^{expected}{hint}[^\n]*$"):
            reported(index, asked)
    some = exclusion_of(
        open_index(index), bisieve.open_index(index).select(0.1).table["rollout_id"].to_pylist()
    )
    with pytest.raises(UsageError, match=f"^{expected}leave out --exclude"):
        reported(index, {}, exclusion=some)


def test_what_to_do_with_one_that_is_too_large_is_said_in_a_line_that_works(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(rows, "MOST_IN_MEMORY", 79)
    words = ["--fraction", "10%", "--html", str(tmp_path / "page.html")]
    asked = ["--strategy", "random", "--selection-seed", "3", "--all-negative", "last"]
    assert main(["report", "--index", index, *words, *asked]) == 2
    reading, line = capsys.readouterr().err.splitlines()
    assert reading == f"reading {index}"
    command = line.partition("bisieve rank ")[2].partition(", and then")[0].split()
    assert main(["rank", *(str(tmp_path / "new") if word == "NEW" else word for word in command)]) == 0
    assert main(["report", "--index", str(tmp_path / "new"), *words]) == 0


def test_examples_are_around_the_cutoff_with_their_text(index: str) -> None:
    report = reported(index, {})
    limits = report.view.limits
    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in report.examples.found:
        kinds.setdefault(each.kind, []).append(each.row)
        assert each.rollout is not None
        assert list(each.rollout.scores) == each.row["scores"]
    assert [row["rank"] <= limits[row["source"]] for row in kinds["kept"] + kinds["just kept"]] == [True] * 12
    assert [row["rank"] > limits[row["source"]] for row in kinds["just dropped"] + kinds["dropped"]] == [
        True
    ] * 12
    assert {row["rank"] for row in kinds["just kept"]} == {8, 9, 10}
    assert {row["rank"] for row in kinds["just dropped"]} == {11, 12, 13}
    assert len({(row["source"], row["rank"]) for rows in kinds.values() for row in rows}) == 24


def test_rejects_are_shown_with_their_beginning(index: str) -> None:
    rejects = {each.reason: each for each in reported(index, {}).rejects}
    assert {reason: each.records for reason, each in rejects.items()} == {"bad_json": 2, "no_image": 2}
    places = rejects["bad_json"].examples
    assert [text for _, text in places] == ["{", "{"]
    assert all("@" in place for place, _ in places)


def test_a_report_without_shards_says_what_it_could_not_read(
    tmp_path: Path, score: Callable[..., Any]
) -> None:
    url, images = make_reported(tmp_path, score)
    for shard in (tmp_path / "corpus/shards").iterdir():
        shard.unlink()
    report = reported(url, {}, image_root=images)
    assert all(each.rollout is None for each in report.examples.found)
    assert report.costs["corpus"].tokens is None
    assert report.examples.notes[0].startswith("the text of 24 of 24 rollouts: expected ")
    assert "Not shown:" in str(index_page(report))


def test_images_that_cannot_be_read_are_left_out_with_a_note(index: str, tmp_path: Path) -> None:
    report = reported(index, {}, image_root=str(tmp_path / "none"))
    assert all(not each.images for each in report.examples.found)
    assert len(report.examples.notes) == 1
    assert report.examples.notes[0].startswith("24 of 24 images: expected ")


def test_broken_images_are_counted_and_the_others_are_shown(
    tmp_path: Path, score: Callable[..., Any]
) -> None:
    url, images = make_reported(tmp_path, score)
    broken = {"0.png", "1.png", "2.png"}
    for name in broken:
        (Path(images) / name).write_bytes(b"no image")
    examples = reported(url, {}, image_root=images).examples
    missing = [bool({*each.rollout.images} & broken) for each in examples.found if each.rollout]
    assert [not each.images for each in examples.found] == missing
    assert 5 < sum(missing) < 24  # five do not end the reading of others
    assert examples.notes[0].startswith(f"{sum(missing)} of 24 images: expected ")


def test_an_image_inside_a_record_is_shown_or_said_to_be_none(
    tmp_path: Path, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    written = io.BytesIO()
    Image.new("RGB", (8, 8)).save(written, "PNG")
    inside = [base64.b64encode(data).decode() for data in (written.getvalue(), b"none")]
    names = [*(f"data:image/png;base64,{data}" for data in inside), *(f"missing/{n}.png" for n in range(6))]
    records = [rollout([1.0, 0.0], image=name, question=f"{n}?") for n, name in enumerate(reversed(names))]
    score(write_jsonl("corpus/a.jsonl", records), tmp_path / "index")
    examples = reported(str(tmp_path / "index"), {}, image_root=str(tmp_path)).examples
    assert sum(bool(each.images) for each in examples.found) == 1  # the last one, after all that are missing
    (note,) = reported(str(tmp_path / "index"), {}).examples.notes[1:]
    assert note == "1 of 8 images: expected an image in each record; found no image of a known format in one"


def test_the_verdict_says_no_more_than_is_known(
    tmp_path: Path, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    records = [rollout([1.0, place / 8], question=f"{place}?") for place in range(8)]
    score(write_jsonl("corpus/a.jsonl", records), tmp_path / "index")
    found = {each.title: each.text for each in verdict(reported(str(tmp_path / "index"), {}))}
    # A gate that refuses leaves nothing behind.
    assert found["Gate not passed."] == "No version of this index has passed bisieve gate yet."
    equal = "1.00 rollouts a question in the selection, 1.00 in the corpus; 2 of 8 questions (25.0%)"
    assert found["As redundant as the corpus:"].startswith(equal)
    whole = collect(open_index(str(tmp_path / "index")), "index", 1.0, {})
    assert "All rollouts are kept:" in {each.title for each in verdict(whole)}


def test_an_index_without_usable_rollouts_has_a_page_of_its_rejects(
    tmp_path: Path, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    one = write_jsonl("corpus/a.jsonl", [rollout([1.0, 0.0])])
    score(one, tmp_path / "index")
    report = reported(str(tmp_path / "index"), {})
    assert plain(report.numbers())["selection"]["rollouts"] == 1  # the smallest that there is
    assert index_page(report).sections[0].title == "Verdict"


@pytest.mark.parametrize("asked", [{}, {"all_negative": "drop"}], ids=["of the index", "in memory"])
def test_a_source_of_which_nothing_is_kept_has_dropped_examples(
    asked: dict[str, Any], tmp_path: Path, score: Callable[..., Any], write_jsonl: Callable[..., Path],
    rollout: Callable[..., Any],
) -> None:  # fmt: skip
    write_jsonl("corpus/negative.jsonl", [rollout([0.0]) for _ in range(4)])
    write_jsonl("corpus/mixed.jsonl", [rollout([1.0, 0.0]) for _ in range(4)])
    score(tmp_path / "corpus", tmp_path / "index", **({} if asked else {"all_negative": "drop"}))
    report = reported(str(tmp_path / "index"), asked)
    kinds = {each.kind for each in report.examples.found if each.row["source"] == "negative"}
    assert kinds == {"just dropped", "dropped"}
    (negative,) = [each for each in plain(report.numbers())["sources"] if each["source"] == "negative"]
    assert (negative["selection"]["rollouts"], negative["lowest_bis"]) == (0, None)
    assert report.counts.cutoffs("negative").tolist() == []
    assert "Empty:" not in str(index_page(report))


def test_an_index_of_which_nothing_can_be_kept_says_why(
    tmp_path: Path, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    shard = write_jsonl("corpus/a.jsonl", [rollout([0.0]), rollout([0.0, 0.0])])
    score(shard, tmp_path / "index", all_negative="drop")
    page = index_page(reported(str(tmp_path / "index"), {}))
    assert "no rollout has a positive step, and --all-negative drop selects no others." in str(page)
    assert page.numbers["corpus"]["rollouts"] == 2


def test_another_index_is_compared_at_the_same_fraction(index: str, tmp_path: Path) -> None:
    opened = bisieve.open_index(index)
    other = bisieve.rerank(opened, str(tmp_path / "other"), alpha=0.5)
    numbers = opened.write_html(str(tmp_path / "page.html"), FRACTION, other=other)
    expected = bisieve.compare(opened.select(FRACTION), other.select(FRACTION)).numbers()
    compared = numbers["compared"]
    assert compared["other"] == str(tmp_path / "other")
    assert sum(source["both"] for source in compared["sources"]) == sum(
        source["kept"] for source in expected["sources"]
    )
    assert "Beside another index" in (tmp_path / "page.html").read_text()
    with pytest.raises(UsageError, match="expected --html outside the index"):
        opened.write_html(str(tmp_path / "other/manifest.json"), FRACTION, other=other)
    some = tmp_path / "ids.txt"
    some.write_text(opened.select(0.1).table["rollout_id"][0].as_py())
    with pytest.raises(UsageError, match="expected --compare without --exclude; found both"):
        opened.write_html(str(tmp_path / "page.html"), FRACTION, other=other, exclude=str(some))
    with pytest.raises(UsageError, match="--compare with a selection by the options"):
        opened.write_html(str(tmp_path / "page.html"), FRACTION, other=other, alpha=0.2)


def test_a_page_names_the_largest_sources_and_the_numbers_have_all(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = bisieve.open_index(index)
    other = bisieve.rerank(opened, str(tmp_path / "other"), alpha=0.5)
    monkeypatch.setattr("bisieve.report.index_page.MOST_SOURCES", 1)
    page = index_page(reported(index, {}, other=(other.opened, "other")))
    assert [each["source"] for each in page.numbers["sources"]] == ["adding"]
    assert page.numbers["more_sources"] == 1
    assert [each["source"] for each in page.numbers["compared"]["sources"]] == ["adding"]
    assert "The 1 largest of 2 sources; --json has all." in str(page)
    numbers = opened.write_html(str(tmp_path / "page.html"), FRACTION, other=other)
    assert [each["source"] for each in numbers["sources"]] == ["adding", "reading"]
    assert numbers["more_sources"] == 0
    assert len(numbers["compared"]["sources"]) == 2


def test_a_long_rollout_is_shown_by_its_beginning(
    tmp_path: Path, score: Callable[..., Any], write_jsonl: Callable[..., Path], rollout: Callable[..., Any]
) -> None:
    steps = [{"step": f"{number} {'x' * 5000}", "score": 0.5} for number in range(2000)]
    long = rollout([0.5], question="?" * 5000, steps_with_score=steps)
    score(write_jsonl("corpus/a.jsonl", [long]), tmp_path / "index")
    (found,) = plain(reported(str(tmp_path / "index"), {}).numbers())["rollouts"]
    assert found["num_steps"] == 2000
    assert [len(found[name]) for name in ("steps", "scores")] == [40, 40]
    assert {len(text) for text in (found["question"], *found["steps"])} == {1501}


def test_a_step_has_its_score_where_no_continuation_was_made() -> None:
    row = {"scores": [0.75, 0.0, 1 / 3], "mc_correct": [12, 0, 0], "mc_total": [16, 0, 0]}
    assert step_labels(row) == ["12/16", "0", "0.333"]
    assert step_labels({**row, "mc_correct": None, "mc_total": None}) == ["0.75", "0", "0.333"]


def test_examples_of_each_reason_are_found_wherever_it_is(index: str) -> None:
    opened = open_index(index)
    for reject in reported(index, {}).rejects:
        places = [place for place, _ in reject.examples]
        assert len(places) == min(3, opened.manifest.rejected[reject.reason])
        assert len(set(places)) == len(places)
