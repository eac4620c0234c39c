r"""Reward the rollouts of OpenRLHF by the steps of their solutions.

    export BISIEVE_SERVER=http://HOST:8000 BISIEVE_MODEL=/models/mprm    # or BISIEVE_MODEL alone
    python examples/rl/openrlhf_reward.py --host 0.0.0.0 --port 5000
    python -m openrlhf.cli.train_ppo_ray --reward.remote_url http://THIS_HOST:5000/get_reward ...

Without a second program: ``--reward.remote_url /path/to/openrlhf_reward.py`` calls `reward_func` inside each
rollout worker, with ``BISIEVE_SERVER`` set there. ``BISIEVE_AGGREGATE`` and ``BISIEVE_SPLIT`` change how the
rewards of the steps become one, and where a step ends. The program asks for no password and reads the images
that a request names: keep it in a network that you trust.

OpenRLHF sends the text of prompt and response, but no images. So the column of ``--data.label_key`` has
question and images of each record, as an object or as its JSON text:
``{"question": "Which bar is highest?", "images": ["/data/charts/0001.png"]}``. A question that has
``<image>`` has its images there.

Written for OpenRLHF 0.11 (``--remote_rm_url`` in older ones). It asks for one rollout at a time, waits 180
seconds, and tries five times; after that the rollout has no reward.
"""

import argparse
import json
import re
import sys
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from bisieve.errors import BisieveError, ImageError, StorageError, UsageError
from ray_train import SolutionScorer

NO_REWARD = 0.0  # of a response without a step that can be scored: as if it were surely wrong
END = re.compile(r"<\|im_end\|>|<\|endoftext\|>|<\|eot_id\|>|<end_of_turn>|<eos>|</s>")  # of a response
LEAST = 8  # characters at the end of a prompt that a query must have: fewer may be there by chance
OF_A_REQUEST = (UsageError, ImageError, StorageError, KeyError, TypeError, ValueError, RecursionError)


@cache
def scorer() -> SolutionScorer:
    """Return the scorer of this process, which is made once."""
    return SolutionScorer.from_environment()


def reward_func(queries: Sequence[str], prompts: Sequence[str], labels: Sequence[Any]) -> dict[str, Any]:
    """Return rewards, scores and what OpenRLHF logs, each with one value per query.

    Args:
        queries: Text of prompt and response, with their special tokens.
        prompts: Text of the prompt.
        labels: Question and images of each.
    """
    solutions = []
    for query, prompt, label in zip(queries, prompts, labels, strict=True):
        question, images = asked(label)
        solutions.append((question, images, response_of(query, prompt)))
    scores = scorer().score_batch(solutions)
    rewards = [NO_REWARD if score.reward is None else score.reward for score in scores]
    steps = [float(len(score.steps)) for score in scores]
    unscored = [float(score.unscored) for score in scores]
    return {"rewards": rewards, "scores": rewards, "extra_logs": {"steps": steps, "unscored_steps": unscored}}


def asked(label: Any) -> tuple[str, Any]:
    """Return question and images of a label."""
    try:
        record = json.loads(label) if isinstance(label, str) else label
        return record["question"], record.get("images")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            "a label with question and images", repr(label)[:60], "check --data.label_key"
        ) from error


def response_of(query: str, prompt: str) -> str:
    """Return the response in a query, up to the end of its turn.

    A query may begin otherwise than its prompt: an image is one token there and hundreds here, and a long
    prompt loses its start. So the response follows the longest end of the prompt that the query has.
    """
    start = bisect_left(range(len(prompt)), True, key=lambda place: prompt[place:] in query)
    shared = prompt[start:]
    if len(shared) < min(len(prompt), LEAST) or not shared:
        raise UsageError("the end of its prompt in a query", repr(query[-60:]), "send both as OpenRLHF does")
    return END.split(query.partition(shared)[2], maxsplit=1)[0]


class RewardHandler(BaseHTTPRequestHandler):
    """Answers a POST of ``{query, prompts, labels}`` at any path."""

    def do_POST(self) -> None:
        """Answer with the rewards, or with the reason: 400 where the request is wrong, 500 otherwise."""
        try:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = 200, reward_func(asked["query"], asked["prompts"], asked["labels"])
        except Exception as error:  # of the model or the server, too: the trainer asks again
            status = 400 if isinstance(error, OF_A_REQUEST) else 500
            answer = {"error": f"{type(error).__name__}: {error}"}
            self.log_error("%s", answer["error"])
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:  # it waits for 180 seconds
            self.log_error("the trainer has left before it got its rewards")

    def log_request(self, *_: object) -> None:
        """Print no line per rollout; reasons of a refusal are printed."""


class RewardServer(ThreadingHTTPServer):
    """A server with a thread per request."""

    request_queue_size = 1024  # rollouts end many at a time; more than the 5 of Python would be refused


def main() -> None:
    """Load the model, and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine's)")
    parser.add_argument("--port", type=int, default=5000, help="default: 5000")
    options = parser.parse_args()
    try:
        with _listening(options.host, options.port) as server:
            scorer()  # now, not with the first request, whose time is limited
            print(f"rewards at http://{options.host}:{server.server_port}/get_reward", flush=True)
            server.serve_forever()
    except BisieveError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _listening(host: str, port: int) -> RewardServer:
    try:
        return RewardServer((host, port), RewardHandler)
    except (OSError, OverflowError) as error:
        raise UsageError("a free --port of this --host", f"{host}:{port}: {error}", "give others") from error


if __name__ == "__main__":
    main()
