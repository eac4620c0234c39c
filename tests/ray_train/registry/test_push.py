"""A trained model gets to the hub whole, with a page whose examples load it from there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub_uploads import Uploads, taking_uploads
from support.published import publish

from bisieve._text import rounded
from bisieve.cli.main import run_command


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    with taking_uploads(monkeypatch) as server:
        yield server


@pytest.fixture(scope="module")
def model(internvl: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published model with the files of its run beside it."""
    folder = tmp_path_factory.mktemp("push") / "model"
    publish(internvl, folder)
    (folder / "LICENSE").write_text("of its owner")
    for name in ("run.json", "config.toml", "driver.json", "unfinished.json", "sweep.json", "page.json"):
        (folder / name).write_text("{}")
    for name in ("credentials.json", "notes.txt", "optimizer.safetensors"):
        (folder / name).write_text("of its owner alone")
    (folder / "runs").mkdir()
    (folder / "runs" / "model.safetensors").write_bytes(b"a checkpoint")
    return folder


def push(model: Path, *others: str) -> int:
    return run_command("ray_train.cli.push", ["--model", str(model), *others])


def test_all_files_of_the_model_are_in_one_commit_and_no_others(
    hub: Uploads, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(model, "--repo", "some-lab/mprm", "--private", "--message", "First") == 0
    (commit,) = hub.commits
    printed = capsys.readouterr()
    assert printed.out == f"{hub.url}/some-lab/mprm/commit/{'1' * 40}\n"
    size = sum((model / name).stat().st_size for name in commit["files"]) / 1e9
    assert printed.err == f"uploading 12 files, {rounded(size)} GB to some-lab/mprm at {hub.url}\n"
    assert hub.repositories == {"some-lab/mprm": True}
    assert (commit["repo"], commit["branch"], commit["message"]) == ("some-lab/mprm", "main", "First")
    assert set(commit["files"]) == {
        "LICENSE", "README.md", "bisieve.json", "chat_template.jinja", "config.json",
        "generation_config.json", "model.safetensors", "preprocessor_config.json", "processor_config.json",
        "tokenizer.json", "tokenizer_config.json", "vllm.yaml",
    }  # fmt: skip
    page = commit["files"].pop("README.md").decode()
    assert page.count('MODEL = "some-lab/mprm"') == 2
    assert 'MODEL = "."' in (model / "README.md").read_text()
    for name, content in commit["files"].items():
        assert content == (model / name).read_bytes(), name


def test_a_repository_that_is_there_gets_another_commit(
    hub: Uploads, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["somebody/mprm"] = False
    assert push(model, "--repo", "mprm", "--private", "--quiet") == 0
    assert capsys.readouterr().err == ""
    assert hub.repositories == {"somebody/mprm": False}
    assert [commit["repo"] for commit in hub.commits] == ["somebody/mprm"]


def test_weights_of_an_earlier_model_go_and_files_of_others_stay(hub: Uploads, model: Path) -> None:
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    others = [".gitattributes", "NOTICE", "adapter.safetensors", "old/model-1.safetensors"]
    stale = [*shards, "model.safetensors.index.json", "kappa.safetensors"]
    hub.files["some-lab/mprm", "main"] = [*others, *stale, "model.safetensors", "vllm.yaml"]
    assert push(model, "--repo", "some-lab/mprm") == 0
    assert hub.files["some-lab/mprm", "main"] == sorted([*others, *hub.commits[0]["files"]])


def test_who_may_not_write_is_told_to_log_in(
    hub: Uploads, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_AnotherTokenOfNobody")
    assert push(model, "--repo", "some-lab/mprm") == 1
    error = capsys.readouterr().err
    assert "expected to write to some-lab/mprm on the hub; found Client error '401 Unauthorized'" in error
    assert error.endswith("log in with hf auth login, or set HF_TOKEN to a token that may write there\n")
    assert "AnotherToken" not in error
    assert not hub.commits


@pytest.mark.parametrize(
    "repo", ["", "a/b/c", "some lab/mprm", "https://huggingface.co/some-lab/mprm", "../m"]
)
def test_what_is_no_name_of_a_repository_is_refused_before_anything_is_sent(
    repo: str, hub: Uploads, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(model, f"--repo={repo}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"expected --repo as NAME or OWNER/NAME of the hub; found {repo!r}" in line
    assert not hub.repositories


def test_a_token_that_no_header_can_have_is_one_to_correct(
    hub: Uploads, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_clé")
    assert push(model, "--repo", "some-lab/mprm") == 1
    assert capsys.readouterr().err.endswith("set HF_TOKEN to a token that may write there\n")


def test_a_password_in_the_address_of_the_hub_is_not_printed(
    hub: Uploads, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = hub.url.replace("://", "://someone:password@")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    push(model, "--repo", "some-lab/mprm")
    printed = capsys.readouterr()
    assert f"to some-lab/mprm at {hub.url.replace('://', '://***@')}\n" in printed.err
    assert "password" not in printed.err


def test_a_hub_that_falls_silent_ends_the_upload(
    hub: Uploads, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray_train.registry.push._PATIENCE", 0.5)
    hub.answering.clear()
    try:
        assert push(model, "--repo", "some-lab/mprm") == 1
    finally:
        hub.answering.set()
    assert "expected to write to some-lab/mprm on the hub; found timed out" in capsys.readouterr().err


def test_a_hub_that_does_not_answer_is_one_line(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert push(model, "--repo", "some-lab/mprm") == 1
    assert "expected the hub at http://127.0.0.1:9; found no answer" in capsys.readouterr().err


def test_a_process_of_its_own_without_the_hub_ends_with_one_line(model: Path) -> None:
    command = [sys.executable, "-m", "bisieve", "push", "--model", str(model), "--repo", "some-lab/mprm"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert "found no answer, or HF_HUB_OFFLINE is set; check the network, and unset HF_HUB_OFFLINE" in line


def test_a_model_that_bisieve_did_not_train_is_not_pushed(
    hub: Uploads, internvl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(internvl, "--repo", "some-lab/mprm") == 1
    assert "expected a model that bisieve trained" in capsys.readouterr().err
    assert not hub.repositories


def test_a_model_whose_weights_are_cut_off_is_not_pushed(
    hub: Uploads, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = shutil.copytree(model, tmp_path / "cut")
    os.truncate(cut / "model.safetensors", 5_000)
    assert push(cut, "--repo", "some-lab/mprm") == 1
    assert "model.safetensors that is damaged or cut off" in capsys.readouterr().err
    assert not hub.repositories


def test_a_model_without_a_tokenizer_is_not_pushed(
    hub: Uploads, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = shutil.copytree(model, tmp_path / "part")
    (part / "tokenizer.json").unlink()
    assert push(part, "--repo", "some-lab/mprm") == 1
    assert f"expected a tokenizer, such as tokenizer.json, at {part}; found none" in capsys.readouterr().err
    assert not hub.repositories


def test_a_model_without_a_page_is_pushed_with_a_note(
    hub: Uploads, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = shutil.copytree(model, tmp_path / "bare")
    (bare / "README.md").unlink()
    assert push(bare, "--repo", "some-lab/mprm") == 0
    assert "note: no README.md, so the model has no page on the hub\n" in capsys.readouterr().err
    assert "README.md" not in hub.commits[0]["files"]


def test_a_page_that_is_not_utf_8_is_named(
    hub: Uploads, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(model, tmp_path / "other")
    (other / "README.md").write_bytes("Modèle".encode("latin-1"))
    assert push(other, "--repo", "some-lab/mprm") == 1
    assert f"expected UTF-8 in {other}/README.md" in capsys.readouterr().err
    assert not hub.repositories
