"""Submit, watch and stop jobs of a Ray cluster through the REST interface of its dashboard.

Ray's own client is the package ray: 500 MB, in the version of the cluster, for five requests.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry
from websockets.exceptions import ConnectionClosedOK
from websockets.sync.client import connect

SUBMITTED = "SUBMISSION"  # Ray's type of jobs that came by this interface; others have no submission id
AT_ONCE = 4  # seconds; Airflow gives a killed task five seconds to end
QUIET = 300  # seconds without output until `tail` returns: a dead connection is silent, too

# The dashboard forwards an offer of compression but cannot read the compressed answer; it answers no pings.
_AS_THE_DASHBOARD_CAN: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}

# A head node that restarts is away for a minute or two: 10 retries, 3 minutes in all. Repeating any request
# is safe, since a submission id can be used only once.
_PATIENCE = Retry(
    total=10, backoff_factor=1, backoff_max=30, status_forcelist=(502, 503, 504), allowed_methods=None,
    raise_on_status=False,
)  # fmt: skip


class TokenError(RuntimeError):
    """An error when a Ray cluster refuses the token; a retry does not help."""


@dataclass
class RayJobs:
    """The jobs of the Ray cluster whose dashboard is at ``address``.

    `all`, `details` and `submit` raise `TokenError` if the cluster refuses the token, RuntimeError for any
    other error status, and an exception of requests if there is no connection. `stop` ignores the status;
    `tail` raises exceptions of websockets and OSError.
    """

    address: str  # http://HOST:PORT
    token: str | None = field(default=None, repr=False)  # for clusters with RAY_AUTH_MODE=token
    _session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_PATIENCE))

    def all(self) -> dict[str, dict[str, Any]]:
        """Return Ray's details of each submitted job, by submission id."""
        answer = self._session.get(self._url(), headers=self._headers, timeout=60)
        return {job["submission_id"]: job for job in _checked(answer).json() if job["type"] == SUBMITTED}

    def details(self, name: str) -> dict[str, Any] | None:
        """Return Ray's details of a job; None if there is no job with that submission id."""
        answer = self._session.get(self._url(name), headers=self._headers, timeout=60)
        return None if answer.status_code == requests.codes.not_found else _checked(answer).json()

    def submit(self, name: str, entrypoint: str, runtime_env: Mapping[str, Any]) -> None:
        """Submit a job; does nothing if there is one with that submission id already.

        Args:
            name: The submission id.
            entrypoint: A shell command line.
            runtime_env: Ray's runtime environment for it.
        """
        body = {"submission_id": name, "entrypoint": entrypoint, "runtime_env": dict(runtime_env)}
        answer = self._session.post(self._url(), json=body, headers=self._headers, timeout=300)
        if not answer.ok and self.details(name) is None:
            _checked(answer)

    def stop(self, name: str) -> None:
        """Ask Ray to stop a job, without retries; does not wait until it has ended."""
        requests.post(f"{self._url(name)}/stop", headers=self._headers, timeout=AT_ONCE)

    def tail(self, name: str) -> Iterator[str]:
        """Yield the job's output from its beginning, in pieces, until it ends or is silent for `QUIET` s."""
        url = f"ws{self._url(name).removeprefix('http')}/logs/tail"
        with (
            connect(url, additional_headers=self._headers, max_size=None, **_AS_THE_DASHBOARD_CAN) as stream,
            suppress(TimeoutError, ConnectionClosedOK),
        ):
            while True:
                yield str(stream.recv(timeout=QUIET))

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def _url(self, name: str = "") -> str:
        return f"{self.address}/api/jobs/{quote(name, safe='')}"


def _checked(answer: requests.Response) -> requests.Response:
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        found = "another one" if "Authorization" in answer.request.headers else "none"
        raise TokenError(
            f"expected the token that the Ray at {answer.url} asks for; found {found}; "
            "set it as the connection's password, or as RAY_AUTH_TOKEN"
        )
    if not answer.ok:
        last = (answer.text.strip().splitlines() or [answer.reason])[-1]
        raise RuntimeError(f"expected Ray to answer {answer.url}; found {answer.status_code}: {last}")
    return answer
