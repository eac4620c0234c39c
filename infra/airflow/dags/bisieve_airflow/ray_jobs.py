"""The jobs of a Ray, through the REST interface of its dashboard.

Ray's own client is Ray: 500 MB and a version that has to be that of the cluster, for five requests.
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

SUBMITTED = "SUBMISSION"  # Ray's word for a job that came by this interface; others have no submission id
AT_ONCE = 4  # seconds; Airflow gives a task five to end
QUIET = 300  # seconds; a connection that has died says nothing either

# The dashboard passes an offer of compression on and cannot read what comes back, and it answers no pings.
_AS_THE_DASHBOARD_CAN: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}

# A head that is started again is away for a minute or two: 10 tries, 3 minutes in all.  All requests may be
# sent again, since a job's id can be taken only once.
_PATIENCE = Retry(
    total=10, backoff_factor=1, backoff_max=30, status_forcelist=(502, 503, 504), allowed_methods=None,
    raise_on_status=False,
)  # fmt: skip


class TokenError(RuntimeError):
    """A Ray that asks for another token than the one it was given; no other try would change that."""


@dataclass
class RayJobs:
    """The jobs of the Ray whose dashboard is at ``address`` (http://HOST:PORT)."""

    address: str
    token: str | None = field(default=None, repr=False)  # of RAY_AUTH_MODE=token
    _session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=_PATIENCE))

    def all(self) -> dict[str, dict[str, Any]]:
        """What Ray tells of each submitted job, by its id."""
        answer = self._session.get(self._url(), headers=self._headers, timeout=60)
        return {job["submission_id"]: job for job in _checked(answer).json() if job["type"] == SUBMITTED}

    def details(self, name: str) -> dict[str, Any] | None:
        """What Ray tells of a job; None where it knows none of that name."""
        answer = self._session.get(self._url(name), headers=self._headers, timeout=60)
        return None if answer.status_code == requests.codes.not_found else _checked(answer).json()

    def submit(self, name: str, entrypoint: str, runtime_env: Mapping[str, Any]) -> None:
        """Starts ``entrypoint``, a line for a shell, as the job ``name``; fine where it has been already."""
        body = {"submission_id": name, "entrypoint": entrypoint, "runtime_env": dict(runtime_env)}
        answer = self._session.post(self._url(), json=body, headers=self._headers, timeout=300)
        if not answer.ok and self.details(name) is None:
            _checked(answer)

    def stop(self, name: str) -> None:
        """Asks Ray to end a job; asked once, and not waited for."""
        requests.post(f"{self._url(name)}/stop", headers=self._headers, timeout=AT_ONCE)

    def tail(self, name: str) -> Iterator[str]:
        """The job's output from its beginning, piece by piece, until it has ended or is quiet for minutes."""
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
