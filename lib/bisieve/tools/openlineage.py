"""Send OpenLineage events of a command: START, then COMPLETE, FAIL or ABORT.

Events are sent only if OpenLineage's client is configured, by its own environment variables or file. If
sending fails, a warning is printed and the command goes on.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from bisieve import console
from bisieve._redact import without_secrets
from bisieve._text import one_line
from bisieve._version import __version__
from bisieve.errors import BisieveError, PreemptedError

NAMESPACE = "OPENLINEAGE_NAMESPACE"  # variable with the namespace of the jobs; default "bisieve"
_PRODUCER = f"bisieve/{__version__}"
_FILES = ("openlineage.yml", "~/.openlineage/openlineage.yml")  # where the client looks for its configuration

Result = TypeVar("Result")


class Datasets:
    """The URLs that a command reads and writes.

    ``versions`` maps a URL to the version of its data (an index's fingerprint). A command may add entries
    while it runs; an event has the versions known when it is sent.
    """

    def __init__(self, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self.inputs, self.outputs = inputs, outputs
        self.versions: dict[str, str] = {}


def configured() -> bool:
    """Return whether OpenLineage's client is configured.

    That is so if one of its files exists or a variable ``OPENLINEAGE_*`` other than `NAMESPACE` is set.
    """
    return any(name.startswith("OPENLINEAGE_") for name in os.environ.keys() - {NAMESPACE}) or any(
        os.path.isfile(os.path.expanduser(file)) for file in _FILES
    )


@contextmanager
def lineage_events(job: str, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[Datasets]:
    """Report the ``with`` block as a run of ``job``.

    KeyboardInterrupt and `PreemptedError` are reported as ABORT, any other exception as FAIL; all are raised
    again.

    Args:
        job: The name of the job.
        inputs: Canonical URLs that are read; a model may also be an absolute path or a hub id.
        outputs: Canonical URLs that are written.

    Yields:
        The `Datasets` of the run, to add versions to.
    """
    datasets = Datasets(inputs, outputs)
    sender = _Sender(job, datasets)
    sender.send("START")
    try:
        yield datasets
    except (KeyboardInterrupt, PreemptedError):
        sender.send("ABORT")
        raise
    except Exception as error:
        # The text of a foreign exception may contain secrets: only its type is sent.
        said = without_secrets(str(error)) if isinstance(error, BisieveError) else type(error).__name__
        sender.send("FAIL", said)
        raise
    sender.send("COMPLETE")


class _Sender:
    """The sender of one run's events; sends none if no client is configured, or after the first failure."""

    def __init__(self, job: str, datasets: Datasets) -> None:
        self._job, self._datasets, self._run = job, datasets, str(uuid4())
        self._client: Any = None
        if configured():
            self._client = self._or_warn(_client)

    def send(self, state: str, message: str | None = None) -> None:
        if self._client is not None:
            event = _event(state, self._job, self._run, self._datasets, message)
            if not self._or_warn(lambda: (self._client.emit(event), True)):
                self._client = None

    def _or_warn(self, work: Callable[[], Result]) -> Result | None:
        """Return the result of ``work``; None, after a warning, if it fails."""
        try:
            return work()
        except Exception as error:  # each transport raises exceptions of its own
            reason = one_line(without_secrets(str(error))) or type(error).__name__
            console.show_on_stderr(f"bisieve: warning: no OpenLineage event was sent: {reason}")
            return None


def _client() -> Any:
    try:
        from openlineage.client import OpenLineageClient
    except ModuleNotFoundError as error:
        raise RuntimeError(
            "the OpenLineage client is not installed: pip install 'bisieve[openlineage]'"
        ) from error
    return OpenLineageClient()


def _event(state: str, job: str, run: str, datasets: Datasets, message: str | None) -> Any:
    from openlineage.client import event_v2 as ol
    from openlineage.client.generated.error_message_run import ErrorMessageRunFacet

    facets: dict[str, Any] = {}
    if message is not None:
        facets["errorMessage"] = ErrorMessageRunFacet(message, "python")
    return ol.RunEvent(
        eventType=ol.RunState[state],
        eventTime=datetime.now(UTC).isoformat(),
        run=ol.Run(run, facets),
        job=ol.Job(os.environ.get(NAMESPACE, "bisieve"), job),
        producer=_PRODUCER,
        inputs=[ol.InputDataset(*_named(url), facets=_version(url, datasets)) for url in datasets.inputs],
        outputs=[ol.OutputDataset(*_named(url), facets=_version(url, datasets)) for url in datasets.outputs],
    )


def _named(url: str) -> tuple[str, str]:
    """Return OpenLineage's namespace and name of the dataset at ``url``, or of a hub id."""
    at = urlsplit(without_secrets(url))
    if not at.scheme:
        return ("file", url) if url.startswith("/") else ("hf", url)
    return (f"{at.scheme}://{at.netloc}", at.path.strip("/") or "/") if at.netloc else (at.scheme, at.path)


def _version(url: str, datasets: Datasets) -> dict[str, Any]:
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    version = datasets.versions.get(url)
    return {} if version is None else {"version": DatasetVersionDatasetFacet(version)}
