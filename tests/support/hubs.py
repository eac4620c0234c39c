"""Stand-ins for the Hugging Face hub, which cannot be reached here: its cache, and a server of one model."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

# Of the tiny checkpoints that `hub_checkpoints` builds, by name.
MODEL_TYPES = {
    "InternVL2.5-MPO": "internvl", "InternVL3": "internvl", "InternVL3.5": "internvl",
    "Qwen2.5-VL": "qwen2_5_vl", "Qwen3-VL": "qwen3_vl", "Qwen3.5": "qwen3_5", "Gemma3": "gemma3",
}  # fmt: skip
HUB_ID = "some-lab/Some-VL-1B-hf"
_COMMIT = "0" * 40


def empty_cache(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """Return where in ``folder``, the hub's cache from now on, the files of `HUB_ID` are to be laid."""
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    repository = folder / f"models--{HUB_ID.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(_COMMIT)
    return repository / "snapshots" / _COMMIT


class Hub(ThreadingHTTPServer):
    """The hub's answers to what its library asks of `HUB_ID`, whose files are in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folder = folder
        self.sent: dict[str, int] = {}  # bytes by file
        self.refusing = False  # whatever is asked, as of who may not see the model

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serving(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Be the hub for a while."""
    with Hub(folder) as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        patch.setattr("transformers.utils.hub._hf_api", None)  # the client of another hub
        # asked through a client that keeps the address it was made with; the model has none
        patch.setattr("transformers.tokenization_utils_base.list_repo_templates", lambda *_, **__: [])
        patch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        yield hub
        hub.shutdown()


class _Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        if self.server.refusing:
            self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
            return
        path = self.path.partition("?")[0]
        files = sorted(self.server.folder.iterdir())
        if path.startswith(f"/{HUB_ID}/resolve/"):
            self._file(self.server.folder / path.rpartition("/")[2])
        elif path == f"/api/models/{HUB_ID}/tree/main":
            entries = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in files
            ]
            self._answer(200, json.dumps(entries).encode())
        elif path in (f"/api/models/{HUB_ID}", f"/api/models/{HUB_ID}/revision/main"):
            names = [{"rfilename": file.name} for file in files]
            self._answer(200, json.dumps({"id": HUB_ID, "sha": _COMMIT, "siblings": names}).encode())
        else:
            self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET  # noqa: N815

    def _file(self, file: Path) -> None:
        if not file.is_file():
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        data, size = file.read_bytes(), file.stat().st_size
        headers = {"ETag": f'"{file.name}"', "X-Repo-Commit": _COMMIT}
        status = 200
        if wanted := self.headers.get("Range"):
            first, last = wanted.removeprefix("bytes=").split("-")
            data, status = data[int(first) : int(last or size) + 1], 206
            headers["Content-Range"] = f"bytes {first}-{int(first) + len(data) - 1}/{size}"
        if self.command == "GET":
            self.server.sent[file.name] = self.server.sent.get(file.name, 0) + len(data)
        self._answer(status, data, headers)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""
