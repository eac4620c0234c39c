"""A stand-in for the part of the Hugging Face hub that takes uploads: repositories, large files, commits."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest
import yaml

TOKEN = "hf_aTokenOfNobody"


class Uploads(ThreadingHTTPServer):
    """The hub's answers to an upload; what arrived is in its attributes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories: dict[str, bool] = {}  # name -> is it private
        self.large: dict[str, bytes] = {}  # sha256 -> content
        self.commits: list[dict[str, Any]] = []  # repo, branch, message, files
        self.files: dict[tuple[str, str], list[str]] = {}  # repo, branch -> names in it
        self.answering = Event()  # while it is not set, requests get no answer
        self.answering.set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def taking_uploads(patch: pytest.MonkeyPatch) -> Iterator[Uploads]:
    """Be the hub for a while, for who has `TOKEN`."""
    with Uploads() as hub:
        Thread(target=hub.serve_forever, daemon=True).start()
        patch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        patch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        patch.setattr("huggingface_hub._commit_api.is_xet_available", lambda: False)
        patch.setenv("HF_TOKEN", TOKEN)
        yield hub
        hub.shutdown()


class _Answers(BaseHTTPRequestHandler):
    server: Uploads

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        parts = self.path.partition("?")[0].strip("/").split("/")
        if not self.server.answering.is_set():
            self.server.answering.wait()
            return
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif parts == ["api", "validate-yaml"]:
            header = yaml.safe_load(json.loads(body)["content"].split("---")[1])
            self._answer(200, {"errors": [], "warnings": [] if header else [{"message": "no header"}]})
        elif parts == ["api", "repos", "create"]:
            self._create(json.loads(body))
        elif parts[-2] == "preupload":
            files = [self._mode(file["path"]) for file in json.loads(body)["files"]]
            self._answer(200, {"files": files})
        elif parts[-2:] == ["objects", "batch"]:
            self._batch(json.loads(body)["objects"])
        elif parts[-2] == "commit":
            self._commit("/".join(parts[2:-2]), parts[-1], body)
        else:
            self._answer(404, {"error": self.path})

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[-2:-1] != ["tree"]:
            self._answer(404, {"error": self.path})
            return
        place = ("/".join(parts[2:-2]), parts[-1])
        names = self.server.files.get(place, [".gitattributes"])
        self._answer(200, [{"type": "file", "path": name, "size": 1, "oid": "0" * 40} for name in names])

    def do_PUT(self) -> None:
        self.server.large[self.path.strip("/")] = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, {})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or 'somebody'}/{asked['name']}"
        status = 409 if name in self.server.repositories else 200
        private = asked.get("private") or asked.get("visibility") == "private"
        self.server.repositories.setdefault(name, private)
        self._answer(status, {"url": f"{self.server.url}/{name}", "id": name})

    def _mode(self, path: str) -> dict[str, Any]:
        mode = "lfs" if path.endswith(".safetensors") else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _batch(self, objects: list[dict[str, Any]]) -> None:
        actions = [
            {**each, "actions": {"upload": {"href": f"{self.server.url}/{each['oid']}"}}} for each in objects
        ]
        self._answer(200, {"transfer": "basic", "objects": actions})

    def _commit(self, repo: str, branch: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines()]
        values = [(line["key"], line["value"]) for line in lines]
        files = {value["path"]: base64.b64decode(value["content"]) for key, value in values if key == "file"}
        files |= {value["path"]: self.server.large[value["oid"]] for key, value in values if key == "lfsFile"}
        header = dict(values)["header"]
        deleted = [value["path"] for key, value in values if key == "deletedFile"]
        names = {*self.server.files.get((repo, branch), ()), *files}.difference(deleted)
        self.server.files[repo, branch] = sorted(names)
        self.server.commits.append(
            {"repo": repo, "branch": branch, "message": header["summary"], "files": files}
        )
        url = f"{self.server.url}/{repo}/commit/{'1' * 40}"
        self._answer(200, {"commitUrl": url, "commitOid": "1" * 40, "pullRequestUrl": None})

    def _answer(self, status: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""
