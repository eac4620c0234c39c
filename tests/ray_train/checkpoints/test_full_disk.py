"""What a worker writes on its machine's disk: that disk's own words, final, and nothing left of a file."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from support.disks import REFUSALS, run_on

from bisieve.io import storage

pytestmark = pytest.mark.slow  # programs that import torch

# Of a worker that was told by TMPDIR to use sys.argv[1], on which there is no room for a model.
_PREPARE = """
import json, os, sys, tempfile
from pathlib import Path
import torch
import torch.distributed as dist
from bisieve.errors import BisieveError
from bisieve.io.storage import join, write_bytes
from ray_train.checkpoints import state as checkpoints
from ray_train.checkpoints.state import Cursor, SampleLog, restore, write_part
from ray_train.compat.deepspeed import KINDS, Fragment
from ray_train.model.backbone import load_backbone
from ray_train.model.save import publish_model
from bisieve.io.disk import _ours, scratch_folder, tidy_scratch

disk, backbone = sys.argv[1], load_backbone(sys.argv[2], torch.float32)
state = {kind: torch.arange(20_000.0) for kind in KINDS}
checkpoints.fragments = lambda engine: [Fragment("weight", 0, 20_000, state.__getitem__)]
checkpoints.steps_done = lambda engine: 2  # an engine of DeepSpeed would tell
checkpoints.sync_model_weights = lambda engine, steps: None
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

def files():
    return sorted(str(path.relative_to(disk)) for path in Path(disk).rglob("*") if path.is_file())

said = {}
def met(name, work):
    try:
        work()
        said[name] = ["nothing", "", files()]
    except BisieveError as error:
        said[name] = [type(error).__name__, str(error), files()]

whole = write_part(None, Cursor({}), SampleLog(0, 0), 0, 1, {})
for path in whole.rglob("*"):
    if path.is_file():
        write_bytes(join("memory://run", str(path.relative_to(whole))), path.read_bytes())
_ours.cache_clear()
tempfile.tempdir = disk
"""
_WORK = """
met("publish", lambda: publish_model(backbone, backbone.model.state_dict(), {}, "memory://model"))
met("publish twice", lambda: publish_model(backbone, backbone.model.state_dict(), {}, "memory://model"))
met("checkpoint", lambda: write_part(None, Cursor({}), SampleLog(0, 0), 0, 1, {}))
met("its notes", lambda: write_part(None, Cursor({}), SampleLog(0, 0), 0, 1, {"config.toml": "x" * 99_999}))
met("restore", lambda: restore(None, "memory://run"))
log = SampleLog(0, 0)
log.add(0, [0], ["x"], 0.5)
log.add(1, [0], ["x" * 99_999], 0.5)
met("log", lambda: write_part(None, Cursor({}), log, 0, 1, {}))
log.close()
met("curves", lambda: scratch_folder("curves"))
print(json.dumps(said))
"""
_SET_TMPDIR = "set TMPDIR to a folder on another disk"


def test_no_room_for_a_model_a_checkpoint_or_a_copy_of_one_is_said_as_such_and_leaves_no_file(
    disk: Path, internvl: Path
) -> None:
    done = run_on("small", disk, [sys.executable, "-c", _PREPARE + _WORK, str(disk), str(internvl)])
    assert done.stdout, done.stderr
    said: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line[0] == "{"))
    parts = {
        "publish": "model-.*",
        "publish twice": "model-.*",
        "checkpoint": "checkpoint-.*",
        "its notes": "checkpoint-.*",
        "restore": "restore-.*",
        "log": "samples-.*",
    }
    for name, part in parts.items():
        kind, line, left = said[name]
        assert kind == "DiskError", said[name]
        refusal = REFUSALS["small"].format(file=rf"{disk}/bisieve-scratch-\w+/{part}", disk=disk)
        assert re.fullmatch(refusal + _SET_TMPDIR, line), line
        logs = [file for file in left if "/samples-" in file]
        assert left == logs, f"{name} left {left}"
    assert said["curves"][0] == "nothing", "a folder alone finds room"


@pytest.mark.parametrize("kind", ["read-only", "another user's"])
def test_a_forbidden_disk_is_not_called_a_full_one(kind: str, disk: Path) -> None:
    program = (
        "import sys, tempfile; from bisieve.io.disk import scratch_folder\n"
        "tempfile.tempdir = sys.argv[1]\n"
        "try: scratch_folder('checkpoint')\nexcept Exception as error: print(type(error).__name__, error)"
    )
    done = run_on(kind, disk, [sys.executable, "-c", program, str(disk)])
    said = done.stdout.removesuffix("\n")
    refusal = REFUSALS[kind].format(file=f"{disk}/.*", disk=disk)
    assert re.fullmatch(f"DiskError {refusal}{_SET_TMPDIR}", said), said + done.stderr


def test_no_place_for_temporary_files_at_all_is_a_disks_fault(disk: Path) -> None:
    program = (
        "import sys, tempfile; from bisieve.io.disk import tidy_scratch\n"
        "tempfile._candidate_tempdir_list = lambda: [sys.argv[1]]\n"
        "try:\n with tidy_scratch(): pass\nexcept Exception as error: print(type(error).__name__, error)"
    )
    done = run_on("full", disk, [sys.executable, "-c", program, str(disk)])
    said = done.stdout.splitlines()[0]
    expected = f"DiskError expected a folder for temporary files; found No usable .*{disk}.*; {_SET_TMPDIR}"
    assert re.fullmatch(expected, said), said + done.stderr


_COPY = """
import sys
from ray_train.model.files import local_copy
try:
    print(local_copy(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("kind", ["small", "read-only", "another user's"])
def test_a_disk_that_takes_no_copy_of_a_backbone_is_not_called_a_store_that_is_away(
    kind: str, disk: Path, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.write_bytes(f"{s3}/too-large/model.safetensors", os.urandom(100_000))
    cache = f"{disk}/cache"
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    done = run_on(kind, disk, [sys.executable, "-c", _COPY, f"{s3}/too-large"])
    said, *left = done.stdout.splitlines()
    refusal = REFUSALS[kind].format(file=f"{cache}.*", disk=disk)
    expected = f"DiskError {refusal}set XDG_CACHE_HOME to a folder on another disk"
    assert re.fullmatch(expected, said), said + done.stderr
    assert all(name.endswith(".lock") for name in left), left
    assert "retries" not in done.stderr
    assert "try 2" not in done.stderr
