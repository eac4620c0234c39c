"""What a JVM says on stderr: the reason if it does not start, else shown without what every start says."""

import io
import os

from bisieve.spark.java import JavaStderr

NOISE = "WARNING: Using incubator modules: jdk.incubator.vector\n"


def test_what_is_said_at_every_start_is_not_shown_and_the_rest_is() -> None:
    shown = io.StringIO()
    stderr = JavaStderr(shown)
    java = os.dup(stderr.write_end)
    os.write(java, f"{NOISE}early\n".encode())
    stderr.started()
    os.write(java, f"late\n{NOISE}".encode())
    os.close(java)
    stderr._thread.join(timeout=10)
    assert shown.getvalue() == "early\nlate\n"


def test_a_jvm_that_does_not_start_gives_its_words_and_shows_none() -> None:
    shown = io.StringIO()
    stderr = JavaStderr(shown)
    os.write(stderr.write_end, b"Error: Unrecognized option: --nonsense\n")
    assert stderr.ended() == "Error: Unrecognized option: --nonsense\n"
    assert shown.getvalue() == ""
