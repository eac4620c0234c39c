"""A model behind the HTTP side of `bisieve serve`, in this process and without Ray."""

import base64
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import requests
import uvicorn
from PIL import Image

from ray_train.serving.application import Server, application
from ray_train.serving.config import ServeConfig
from ray_train.serving.judge import Judge

STEPS = ["There are 3 bars.", "So the answer is 3."]


def judge_of(model: Path, **options: Any) -> tuple[Judge, ServeConfig]:
    """A loaded model, and its options."""
    config = ServeConfig(model=str(model), **options)
    config.check()
    return Judge(config), config


@contextmanager
def answering(server: Server) -> Iterator[str]:
    """Let ``server`` answer at the URL that is yielded."""
    running = uvicorn.Server(uvicorn.Config(application(server), port=0, log_level="error", lifespan="off"))
    thread = Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        thread.join(0.01)
    yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = True
    thread.join()


def as_png(image: Image.Image, **options: Any) -> bytes:
    """The image as a PNG."""
    encoded = io.BytesIO()
    image.save(encoded, "PNG", **options)
    return encoded.getvalue()


def data_url(data: bytes) -> str:
    """Encoded bytes as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def posted(url: str, body: Any, **options: Any) -> tuple[int, Any]:
    """Status and JSON of the answer to a POST of ``body``."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = requests.post(url, data, timeout=60, **options)
    return answer.status_code, answer.json()
