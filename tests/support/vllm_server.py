"""A stand-in for vLLM with a published model: it answers as vLLM does, with the rewards of a `StepScorer`."""

import base64
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from jinja2.exceptions import TemplateError
from PIL import Image
from transformers import AutoTokenizer

from ray_train import StepScorer


class Served(ThreadingHTTPServer):
    """The answers of ``vllm serve FOLDER --config FOLDER/vllm.yaml``."""

    def __init__(self, folder: Path, max_length: int, trusting: bool, key: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.folder, self.max_length, self.trusting, self.key = folder, max_length, trusting, key
        self.tokenizer = AutoTokenizer.from_pretrained(folder)  # with the chat template of the folder
        self.scorer, self.lock = StepScorer(str(folder), max_length), Lock()
        self.asked: list[dict[str, Any]] = []  # bodies of the requests to /pooling
        self.failing = 0  # requests that get no answer at first
        self.models: Any = {"data": [{"id": str(folder), "root": str(folder), "max_model_len": max_length}]}
        self.answer = b""  # to /pooling, if it is not that of vLLM
        self.pause: Callable[[Any], float] = lambda body: 0.0  # seconds before it

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def rewards(self, body: dict[str, Any]) -> list[float]:
        """Return the rewards; raise ValueError where vLLM answers 400."""
        if body.get("task") != "token_classify":
            raise ValueError("task is not supported")
        if body.get("mm_processor_kwargs") and not self.trusting:
            raise ValueError("Per-request mm_processor_kwargs are disabled by default")
        user, assistant = (message["content"] for message in body["messages"])
        try:
            self.tokenizer.apply_chat_template(body["messages"], tokenize=False)
        except TemplateError as error:
            raise ValueError(str(error)) from error
        texts, images = [], []
        for part in user:
            if part["type"] == "text":
                texts.append(part["text"])
                continue
            data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
            images.append(Image.open(io.BytesIO(data)))
            assert (images[-1].format, images[-1].mode) == ("PNG", "RGB")
            texts += ["<image>"] if texts else []
        steps = [part["text"] for part in assistant]
        with self.lock:
            rewards = self.scorer.score("".join(texts), images, steps)
        if any(map(math.isnan, rewards)):
            raise ValueError(f"maximum context length is {self.max_length} tokens")
        return rewards


@contextmanager
def serving_model(
    folder: Path, max_length: int = 2048, trusting: bool = True, key: str = ""
) -> Iterator[Served]:
    """Serve the model in ``folder`` for a while."""
    with Served(folder, max_length, trusting, key) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Answers(BaseHTTPRequestHandler):
    server: Served

    def do_GET(self) -> None:
        self._answer(200, self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.failing:
            self.server.failing -= 1
            self._answer(503, {"error": {"message": "starting"}})
            return
        self.server.asked.append(body)
        time.sleep(self.server.pause(body))
        if self.server.answer:
            self._answer(200, self.server.answer)
            return
        try:
            rewards = [[reward] for reward in self.server.rewards(body)]
        except ValueError as error:
            self._answer(400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}})
            return
        data = [{"index": 0, "object": "pooling", "data": rewards}]
        self._answer(200, {"object": "list", "model": body["model"], "data": data})

    def _answer(self, status: int, content: Any) -> None:
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            status, content = 401, {"error": "Unauthorized"}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if status == 503:
            self.send_header("Retry-After", "3600")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""
