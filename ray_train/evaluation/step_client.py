"""Score steps with a model that a server has, as `StepScorer` does with one of its own.

    solution ──as in training: RGB, reserved tokens, length──▶ messages ──POST /pooling──▶ P(Yes) of each step

The server is vLLM with the model's ``vllm.yaml``, or ``bisieve serve``. Card, tokenizer and image sizes are
read here, without weights, to know which steps fit.
"""

import base64
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from multiprocessing.pool import ThreadPool
from typing import Any, Self

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ReadTimeoutError
from urllib3.util import Retry

from bisieve._redact import without_secrets
from bisieve._text import one_line
from bisieve.errors import TrainingError, UsageError
from bisieve.io.images import load_image
from ray_train.config_io import secret_in
from ray_train.data.encode import Encoder, Sample, make_encoder, transparent_images
from ray_train.estimates.sample import CountingProcessor
from ray_train.evaluation.benchmark import Solution
from ray_train.evaluation.rewards import filled
from ray_train.evaluation.step_scorer import Asked, Picture, samples_of
from ray_train.model.backbone import Backbone
from ray_train.model.metadata import CARD, card_of
from ray_train.model.prompt_format import format_in
from ray_train.model.serving_files import chat_messages, user_parts
from ray_train.model.skeleton import load_skeleton_processor

_START = "start it with: vllm serve FOLDER --config FOLDER/vllm.yaml, or bisieve serve --model FOLDER"
_LOG = "look into the log of the server"
RETRIES = 3  # of a request that gets no answer
BUSY_RETRIES = 20  # of one that gets the answer that the server is not ready, or has too much to do
PAUSE = 2.0  # most seconds between two of these; a server may ask for hours
_CONNECT_TIME = 10.0  # seconds; the system would try for two minutes
_KEY = "VLLM_API_KEY"  # environment variable with the key that the server wants, if it wants one


class StepClient:
    """A served model that gives every step of a solution its reward, P(positive).

    Args:
        url: Address of the server, as ``http://localhost:8000``.
        model: Folder, URL or hub id of the same model, of which the weights are not read; empty: the folder
            that the server names, on the same machine.
        max_length: Tokens that a solution may have; 0: as in training. Never more than the server takes.
        workers: Requests at the same time.
        timeout: Seconds that an answer may take.

    Raises:
        TrainingError: There is no such server, or the model or its card cannot be read.
        UsageError: The URL is none of HTTP, or the key in the environment cannot be sent.
    """

    def __init__(
        self, url: str, model: str = "", max_length: int = 0, workers: int = 16, timeout: float = 600.0
    ) -> None:
        if not re.match("https?://[^/]", url):
            raise UsageError(
                "a URL such as http://localhost:8000 as the server", repr(url), "correct or give it"
            )
        self._url, self._workers, self._timeout = url.rstrip("/"), workers, timeout
        self._session = _session(workers)
        self._name, root, run, most = self._model()
        source = str(model) or root
        card = _card(source, model)
        if model and run not in ("", card["run"]):
            raise TrainingError(
                f"a server with the model of run {card['run']}", f"run {run}", "give its --model"
            )
        limits = [max_length or card["config"]["max_length"], most]
        self._encoder = _encoder(source, card, min(filter(None, limits)))
        self.counts: Counter[str] = Counter()  # transparent images and unclear places, over all calls

    def score(self, question: str, images: Sequence[Picture], steps: Sequence[str]) -> list[float]:
        """Return the reward of each step of one solution, as `score_batch` does."""
        return self.score_batch([(question, images, steps)])[0]

    def score_batch(self, solutions: Sequence[Asked]) -> list[list[float]]:
        """Return the rewards of several solutions, which are sent at the same time.

        Args:
            solutions: Question, images and steps of each.

        Returns:
            For each solution one reward in [0, 1] per step; NaN for a step beyond the length limit, and for
            all steps of a solution whose text has a token of the prompt.

        Raises:
            ImageError: An image cannot be read or decoded.
            StorageError: A path or URL cannot be read.
            TrainingError: The server cannot be reached, or refuses a solution.
        """
        rewards = self.rewards(samples_of(solutions))
        return filled(rewards, [steps for _, _, steps in solutions])

    def score_solutions(self, solutions: Sequence[Solution], image_root: str) -> list[list[float]]:
        """Return the rewards of each solution of a file, one per step that fits, as `Scorer.score`."""
        names = {name for solution in solutions for name in solution.images}
        images = {name: load_image(image_root, name) for name in names}
        return self.rewards(
            [
                Sample(number, [images[name] for name in each.images], each.question, each.steps,
                       [0.0] * len(each.steps))
                for number, each in enumerate(solutions)
            ]
        )  # fmt: skip

    def rewards(self, samples: Sequence[Sample]) -> list[list[float]]:
        """Return the rewards of each sample, one per step that fits, as `Scorer.rewards`."""
        self.counts.update(transparent=transparent_images(samples), unclear=self._encoder.unclear(samples))
        pictures = {id(image): image for sample in samples for image in sample.images}
        encoded = {key: _data_url(image) for key, image in pictures.items()}
        fitting = [self._fitting(sample) for sample in samples]  # a tokenizer is not for several threads
        # Not an executor: at Ctrl-C, or where one fails, it would wait for the answers to all that were sent.
        with ThreadPool(max(1, min(self._workers, len(fitting)))) as pool:
            return list(pool.imap(lambda kept: self._rewards(kept, encoded), fitting))

    def _model(self) -> tuple[str, str, str, int]:
        """Return the name of the served model, where it is, its run if known, and its length limit."""
        answer = self._asked("GET", "/v1/models")
        try:
            served = answer["data"][0]
            name, most = str(served["id"]), int(served.get("max_model_len") or 0)
            root, run = str(served.get("root") or name), str(served.get("run") or "")
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            found = one_line(str(answer))[:100]
            raise TrainingError(f"the models of the server at {self._url}", found, _START) from error
        if not run and os.path.isdir(root) and (card := card_of(root)):
            run = card["run"]
        return name, root, run, most

    def _rewards(self, kept: Sample, encoded: dict[int, str]) -> list[float]:
        if not kept.steps:
            return []
        format, number = self._encoder.format, len(kept.images)
        images = [{"type": "image_url", "image_url": {"url": encoded[id(image)]}} for image in kept.images]
        body: dict[str, Any] = {
            "model": self._name, "task": "token_classify",
            "messages": chat_messages(user_parts(format, kept.question, number), kept.steps, images),
        }  # fmt: skip
        if format.options_for(number) != format.image_options:  # several images share the tiles
            fast = format.image_backend != "pil"
            body["mm_processor_kwargs"] = {**format.options_for(number), "use_fast": fast}
        answer = self._asked("POST", "/pooling", body)
        try:
            rewards = [float(one) for (one,) in answer["data"][0]["data"]]
        except (KeyError, IndexError, TypeError, ValueError):
            rewards = []
        if len(rewards) != len(kept.steps):
            raise TrainingError(
                f"a reward of each of {len(kept.steps)} steps from {self._url}",
                f"{len(rewards)} of them", _START,
            )  # fmt: skip
        if wrong := [reward for reward in rewards if not 0 <= reward <= 1]:  # also NaN
            raise TrainingError(f"rewards from 0 to 1 from {self._url}", str(wrong[0]), _START)
        return rewards

    def _fitting(self, sample: Sample) -> Sample:
        """Return ``sample`` with the steps that bisieve's own scorer would keep."""
        if self._encoder.is_ambiguous(sample) or not sample.steps:
            return replace(sample, steps=[])
        inputs = self._encoder.processor(
            images=[self._encoder.images(sample)], text=[self._encoder.text(sample)],
            **self._encoder.format.options_for(len(sample.images)),
        )  # fmt: skip
        ids = inputs["input_ids"][0]
        return sample if len(ids) <= self._encoder.max_length else self._encoder.shortened(sample, ids)

    def _asked(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the JSON of its answer."""
        try:
            times = (_CONNECT_TIME, self._timeout)
            answer = self._session.request(method, self._url + path, json=body, timeout=times)
        except requests.ReadTimeout as error:
            found = f"none within {self._timeout:g} seconds"
            raise TrainingError(f"an answer of the server at {self._url}", found, _LOG) from error
        except requests.RequestException as error:
            found = without_secrets(_cause(error))
            raise TrainingError(f"an answer of the server at {self._url}", found, _START) from error
        if answer.status_code == 401:
            raise TrainingError(
                f"the key of the server at {self._url}", "another one, or none", f"set {_KEY}"
            )
        if not answer.ok:
            raise TrainingError(
                f"a server at {self._url} that takes such requests",
                f"HTTP {answer.status_code}: {_reason(answer)}", _hint(answer),
            )  # fmt: skip
        try:
            return answer.json()
        except (ValueError, RecursionError) as error:
            raise TrainingError(f"JSON from {self._url}", "something else", _START) from error


class _Patience(Retry):
    """Retries of a request."""

    def increment(self, *args: Any, **known: Any) -> Self:
        """Count a failure; raise it if no answer came in time, as the next would take as long."""
        error = known.get("error")
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(*args, **known)

    def parse_retry_after(self, retry_after: str) -> float:
        """Return the seconds that a server asks to wait, but no more than `PAUSE`."""
        return min(super().parse_retry_after(retry_after), PAUSE)


def _session(workers: int) -> requests.Session:
    session = requests.Session()
    patience = _Patience(
        None, connect=RETRIES, read=RETRIES, other=RETRIES, status=BUSY_RETRIES, backoff_factor=0.5,
        backoff_max=PAUSE, status_forcelist=[429, 502, 503, 504], allowed_methods=None, raise_on_status=False,
    )  # fmt: skip
    adapter = HTTPAdapter(pool_maxsize=workers, max_retries=patience)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    if key := secret_in(_KEY):
        session.headers["Authorization"] = f"Bearer {key}"
    return session


def _card(source: str, given: str) -> dict[str, Any]:
    try:
        card = card_of(source)
    except TrainingError:
        if given:
            raise
        card = None
    if card is None:
        raise TrainingError(
            f"the card ({CARD}) of the model that is served, {source}",
            "none here" if not given else "none there",
            "name the model: a folder, URL or hub id of one that bisieve trained",
        )
    return card


def _encoder(source: str, card: dict[str, Any], max_length: int) -> Encoder:
    """Return the encoder of the model at ``source``, which counts tokens and computes no pixels."""
    format = format_in(card, source)
    family, processor = load_skeleton_processor(source, "pil", "--model")
    backbone = Backbone(None, processor, family)
    slot = backbone.token_id(family.image_token(processor.tokenizer))
    counting = replace(backbone, processor=CountingProcessor(processor, slot))
    return make_encoder(counting, format, max_length)


def _data_url(image: Any) -> str:
    """Return an image of PIL as a PNG: RGB, so that the server sees the same pixels."""
    encoded = BytesIO()
    image.convert("RGB").save(encoded, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _reason(answer: requests.Response) -> str:
    try:
        return one_line(str(answer.json()["error"]["message"]))
    except (ValueError, KeyError, TypeError):
        text = one_line(answer.text)
        return answer.reason if text.startswith("<") else text  # not the HTML of a page


def _hint(answer: requests.Response) -> str:
    if answer.status_code == 500:
        return _LOG
    if answer.status_code == 413:
        return "start it with larger limits (--max-body, --max-pixels), or make the images smaller"
    if "mm_processor_kwargs" in _reason(answer):
        return "for several images start the server with --trust-request-mm-kwargs, too"
    return _START


def _cause(error: BaseException) -> str:
    """Return the words of the system, or else of the first error, which is behind those of the libraries."""
    first, cause = error, error.__cause__ or error.__context__
    while cause is not None:
        first, cause = cause, cause.__cause__ or cause.__context__
    if first.args and isinstance(first.args[-1], Exception):  # so urllib3 has the one of a closed connection
        first = first.args[-1]
    return getattr(first, "strerror", None) or one_line(first)
