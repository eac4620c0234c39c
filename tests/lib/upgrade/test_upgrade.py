"""An index that an older bisieve wrote, upgraded in place, is the index that a fresh run makes."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from old_index import set_up

from bisieve.cli import main
from bisieve.cut import read_cut
from bisieve.errors import IndexUnusableError, StorageError
from bisieve.fetch import fetch_rollouts
from bisieve.index import check_shards_unchanged, indexed_layouts, open_index
from bisieve.index_format import FORMAT_VERSION
from bisieve.pointer import replace_pointer
from bisieve.storage import read_bytes, write_bytes
from bisieve.upgrade import chain, draft, in_place
from bisieve.upgrade.in_place import upgrade_index
from bisieve.versions import versions

OLDER = tuple(range(1, FORMAT_VERSION))
LAYOUT = {1: "rollouts", 2: "auto"}  # what format 1 calls the layout that it found by itself


def contents(index: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(index)): path.read_bytes()
        for path in index.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


@pytest.fixture
def old(tmp_path: Path) -> Callable[[int], Path]:
    """Puts an index of an older format at ``index``, and its shards at ``corpus``."""

    def make(version: int) -> Path:
        set_up(version, tmp_path / "corpus", str(tmp_path / "index"))
        return tmp_path / "index"

    return make


def test_every_older_format_has_a_step() -> None:
    assert tuple(chain.STEPS) == OLDER


@pytest.mark.parametrize("version", OLDER)
def test_it_is_the_index_that_a_fresh_run_makes(
    score: Callable[..., Any], old: Callable[[int], Path], tmp_path: Path, version: int
) -> None:
    before = contents(old(version))
    assert [upgrade.format_version for upgrade in upgrade_index(str(tmp_path / "index"))] == [version]
    now = open_index(str(tmp_path / "index"))
    fresh, _ = score(tmp_path / "corpus", tmp_path / "fresh", layout=LAYOUT[version])

    cut = read_cut(now, 1.0)
    assert cut.rows.equals(read_cut(fresh, 1.0).rows)
    assert now.sources.equals(fresh.sources)
    assert indexed_layouts(now) == indexed_layouts(fresh)
    for name in ("parameters", "inputs", "rollouts", "rejected", "examples", "shard_bytes", "cut_scores"):
        assert getattr(now.manifest, name) == getattr(fresh.manifest, name)

    # Rows and rejects lie where they lay, a run that knows the version by its fingerprint finds it, and its
    # shards are those that the spans lead into.
    after = contents(tmp_path / "index")
    assert before.keys() < after.keys()
    assert {name for name in before if before[name] != after[name]} == {
        name for name in before if name.endswith("manifest.json")
    }
    assert now.fingerprint == json.loads(before["manifest.json"])["fingerprint"]
    check_shards_unchanged(now)
    assert len(fetch_rollouts(cut.rows, cut.shards)) == cut.rows.num_rows > 0


@pytest.mark.parametrize("version", OLDER)
def test_scored_again_it_becomes_what_a_fresh_run_makes(
    score: Callable[..., Any], old: Callable[[int], Path], tmp_path: Path, version: int
) -> None:
    index, told = old(version), {}
    upgrade_index(str(index))

    def rescored() -> bool:
        return score(
            tmp_path / "corpus", index, layout=LAYOUT[version],
            tell=lambda event, text="", **fields: told.update({event: fields}),
        )[1]  # fmt: skip

    # Rows of before may be others than those of now, so that all shards are scanned again.
    assert rescored()
    assert told["listed"]["to_scan"] == told["listed"]["shards"]
    assert "rules" in told
    with (tmp_path / "corpus/maths.jsonl").open("a") as shard:
        shard.write("{\n")
    assert rescored()
    assert told["listed"]["to_scan"] == 1
    score(tmp_path / "corpus", tmp_path / "fresh", layout=LAYOUT[version])
    assert contents(tmp_path / "fresh").items() <= contents(index).items()
    assert not rescored()


@pytest.mark.parametrize("version", OLDER)
def test_all_commands_work_on_it(
    old: Callable[[int], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int
) -> None:
    index = str(old(version))

    def said(*command: str) -> str:
        assert main(command) == 0
        return capsys.readouterr().out

    assert main(["report", "--index", index]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"found version {version}; run bisieve upgrade --index file://{index}" in line
    assert "nothing was written" in said("upgrade", "--index", index, "--dry-run")
    assert main(["report", "--index", index]) == 1
    assert f"format {version} to {FORMAT_VERSION}" in said("upgrade", "--index", index)
    before = contents(tmp_path / "index")
    assert f"format {FORMAT_VERSION}, nothing to do" in said("upgrade", "--index", index)
    assert contents(tmp_path / "index") == before

    for alpha in ("0.05", "0.2"):
        ranked = str(tmp_path / f"ranked {alpha}")
        assert "written; " in said("rank", "--index", index, "--output", ranked, "--alpha", alpha)
        assert "up to date" in said("rank", "--index", index, "--output", ranked, "--alpha", alpha)
        assert open_index(ranked).manifest.shards.path.count("/") == 2  # as of any other index
        assert "entered" in said("diff", index, ranked, "--fraction", "0.5")
    said("export", "--index", index, "--fraction", "1.0", "--output", str(tmp_path / "best.jsonl"))
    rollouts = open_index(index).manifest.rollouts
    assert len((tmp_path / "best.jsonl").read_bytes().splitlines()) == rollouts
    assert said("versions", "--index", index).startswith("* ")
    # Lists of before are all that no reader needs now.
    assert f"removed {int(version == 1)} file" in said("clean", "--index", index, "--older-than", "0m")
    assert f"{rollouts} rollouts" in said("report", "--index", index)


def test_what_is_ranked_from_it_is_told_from_what_a_fresh_run_makes(
    score: Callable[..., Any], old: Callable[[int], Path], tmp_path: Path
) -> None:
    index, corpus, ranked = old(2), tmp_path / "corpus", tmp_path / "ranked"
    upgrade_index(str(index))
    assert main(["rank", "--index", str(index), "--output", str(ranked), "--alpha", "0.2"]) == 0
    fresh, _ = score(corpus, tmp_path / "fresh", alpha=0.2)
    assert read_cut(open_index(str(ranked)), 1.0).rows.equals(read_cut(fresh, 1.0).rows)
    assert open_index(str(ranked)).fingerprint != fresh.fingerprint  # its rows are those of before
    assert score(corpus, ranked, alpha=0.2)[1]
    (corpus / "steps-b.jsonl").unlink()
    shutil.rmtree(tmp_path / "fresh")
    score(corpus, ranked, alpha=0.2)
    score(corpus, tmp_path / "fresh", alpha=0.2)
    assert contents(tmp_path / "fresh").items() <= contents(ranked).items()


@pytest.mark.parametrize("version", OLDER)
def test_a_run_that_is_killed_leaves_what_readers_see(old: Callable[[int], Path], version: int) -> None:
    index = old(version)
    before = contents(index)
    seen = {
        name: data for name, data in before.items() if not name.startswith("versions/") or "/part-" in name
    }

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    def killed_after(number: int) -> Callable[..., None]:
        """Writes so many lists."""
        left = iter(range(number))
        return lambda *args: killed() if next(left, None) is None else write_bytes(*args)

    with pytest.MonkeyPatch.context() as patch:
        for number in range(3 if version == 1 else 2):
            patch.setattr(draft, "write_bytes", killed_after(number))
            with pytest.raises(KeyboardInterrupt):
                upgrade_index(str(index))
            assert before.items() <= contents(index).items()
        patch.setattr(draft, "write_bytes", write_bytes)
        patch.setattr("bisieve.manifest.replace_pointer", killed)
        with pytest.raises(KeyboardInterrupt):
            upgrade_index(str(index))
        assert seen.items() <= contents(index).items()
    assert len(upgrade_index(str(index))) == 1
    assert upgrade_index(str(index)) == []
    assert open_index(str(index)).manifest.rollouts == {1: 16, 2: 22}[version]


def test_versions_of_before_are_upgraded_with_it(old: Callable[[int], Path], tmp_path: Path) -> None:
    index = old(2)
    (folder,) = (index / "versions").iterdir()
    now = (folder / "manifest.json").stat().st_mtime
    earlier = ["f" * 16, "0" * 16]  # the oldest first
    for age, name in enumerate(earlier):
        shutil.copytree(folder, folder.with_name(name))
        manifest = folder.with_name(name) / "manifest.json"
        manifest.write_text(manifest.read_text().replace(folder.name, name))
        os.utime(manifest, (now - 100 + age, now - 100 + age))
    assert [upgrade.is_current for upgrade in upgrade_index(str(index))] == [False, False, True]
    found = versions(open_index(str(index)))
    assert [version.manifest.fingerprint[:16] for version in found] == [folder.name, *earlier[::-1]]
    assert [version.current for version in found] == [True, False, False]
    assert upgrade_index(str(index)) == []


def test_a_run_that_was_overtaken_publishes_nothing(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{s3}/{tmp_path.name}/index"
    set_up(2, tmp_path / "corpus", url)
    upgrade = in_place._write

    def overtaken(*args: Any) -> None:
        monkeypatch.undo()
        old = in_place.read_pointer(f"{url}/manifest.json")
        replace_pointer(old, (old.data or b"") + b"\n")
        upgrade(*args)

    monkeypatch.setattr(in_place, "_write", overtaken)
    with pytest.raises(StorageError, match="another run has replaced it"):
        upgrade_index(url)
    assert read_bytes(f"{url}/manifest.json").endswith(b"}\n\n")
    assert len(upgrade_index(url)) == 1
    assert upgrade_index(url) == []
    assert read_cut(open_index(url), 1.0).rows.num_rows == 22


@pytest.mark.parametrize("command", ["report", "upgrade"])
def test_a_newer_format_asks_for_a_newer_bisieve(
    indexed: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    manifest = indexed / "manifest.json"
    newer = FORMAT_VERSION + 1
    manifest.write_text(manifest.read_text().replace(f'_version": {FORMAT_VERSION}', f'_version": {newer}'))
    assert main([command, "--index", str(indexed)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"expected bisieve-index version {FORMAT_VERSION}" in line
    assert f"found version {newer}; install a newer bisieve" in line


def test_what_is_no_index_of_its_format_is_said_so(old: Callable[[int], Path], tmp_path: Path) -> None:
    with pytest.raises(IndexUnusableError, match="make one with bisieve score"):
        upgrade_index(str(tmp_path / "nothing"))
    index = old(1)
    (shards,) = index.rglob("shards.parquet")
    whole = shards.read_bytes()
    shards.write_bytes(whole[:-1])
    with pytest.raises(IndexUnusableError, match=r"shards\.parquet; found .* another --index"):
        upgrade_index(str(index))
    shards.write_bytes(whole)
    fields = json.loads((index / "manifest.json").read_text())
    del fields["sources"]
    (index / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(IndexUnusableError, match="one of version 1 with other fields"):
        upgrade_index(str(index))
