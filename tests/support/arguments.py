"""The command lines of all processes of this machine, as `ps` shows them to all its users."""

from threading import Event, Thread

import psutil


class Arguments:
    """A set of the command lines that are seen while the block runs."""

    def __enter__(self) -> set[str]:
        self._seen: set[str] = set()
        self._ended = Event()
        self._thread = Thread(target=self._look)
        self._thread.start()
        return self._seen

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            for process in psutil.process_iter(["cmdline"]):
                self._seen.add(" ".join(process.info["cmdline"] or ()))
