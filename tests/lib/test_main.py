"""The command while it is being imported."""

import subprocess
import sys

_INTERRUPTED_IMPORT = """
import sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "bisieve.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupts())
from bisieve.__main__ import run
sys.exit(run())
"""


def test_ctrl_c_while_it_is_imported_is_one_line() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED_IMPORT], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "bisieve: interrupted; nothing half-written was made visible\n"
