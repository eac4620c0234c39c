"""A task that is a ``bisieve`` command on the worker itself."""

from collections.abc import Callable, Sequence
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

SAID_WHY = (
    1,
    2,
)  # exit codes of what no other try mends; a store that does not answer was asked again already


class BisieveOperator(BaseOperator):
    """Runs ``bisieve ARGUMENTS``, the first on PATH; no shell sees them.  Returns the last line it printed.

    ``arguments`` may be what makes them of the task's context.
    """

    template_fields = ("arguments",)

    def __init__(self, *, arguments: Sequence[str] | Callable[..., list[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.arguments = arguments
        self._process = SubprocessHook()

    def execute(self, context: Any) -> str:
        """Runs it; raises with its last line when it ends with another exit code than 0."""
        done = self._process.run_command(["bisieve", *self.arguments])
        if done.exit_code:
            kind = AirflowFailException if done.exit_code in SAID_WHY else AirflowException
            raise kind(f"exit code {done.exit_code}: {done.output}")
        return done.output

    def on_kill(self) -> None:
        """Ends it with its task."""
        self._process.send_sigterm()
