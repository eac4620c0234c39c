"""An operator that runs a ``bisieve`` command on the Airflow worker itself."""

from collections.abc import Callable, Sequence
from typing import Any

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

# Exit codes of errors that a retry does not fix. bisieve itself has retried where a store did not answer.
SAID_WHY = (1, 2)


class BisieveOperator(BaseOperator):
    """An operator that runs ``bisieve ARGUMENTS`` without a shell and returns the last line of its output.

    The program is the first ``bisieve`` on PATH.

    Args:
        arguments: A list of words, or a callable that makes it from the task's context.
        kwargs: Arguments of `BaseOperator`.
    """

    template_fields = ("arguments",)

    def __init__(self, *, arguments: Sequence[str] | Callable[..., list[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.arguments = arguments
        self._process = SubprocessHook()

    def execute(self, context: Any) -> str:
        """Run the command and return the last line of its output.

        Raises:
            AirflowFailException: The exit code is in `SAID_WHY`: Airflow does not retry.
            AirflowException: The exit code is another one than 0: Airflow retries.
        """
        done = self._process.run_command(["bisieve", *self.arguments])
        if done.exit_code:
            kind = AirflowFailException if done.exit_code in SAID_WHY else AirflowException
            raise kind(f"exit code {done.exit_code}: {done.output}")
        return done.output

    def on_kill(self) -> None:
        """Send SIGTERM to the command when the task is killed."""
        self._process.send_sigterm()
