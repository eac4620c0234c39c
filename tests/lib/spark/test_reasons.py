"""The line that a report of Java or Python comes down to."""

import pytest

from bisieve.spark.java import innermost

REPORTS = {
    "Could not parse Master URL: 'local[x]'": """An error occurred while calling X.
: org.apache.spark.SparkException: Could not parse Master URL: 'local[x]'
\tat org.apache.spark.SparkContext$.createTaskScheduler(SparkContext.scala:3352)
\tat java.base/java.lang.Thread.run(Thread.java:840)
""",
    "Class S3AFileSystem not found": """: java.lang.RuntimeException: java.io.IOException: Class S3AFileSystem
\tat a.b(C.java:1)
Caused by: java.lang.ClassNotFoundException: Class S3AFileSystem not found
\tat a.b(C.java:2)
\t... 25 more
""",
    'Cannot run program "python9": error=2, No such file': """: SparkException: Job aborted
\tat a.b(C.java:1)
Caused by: java.io.IOException: Cannot run program "python9": error=2, No such file
\tat a.b(C.java:2)
Caused by: java.io.IOException: error=2, No such file
\t... 25 more
""",
    "ValueError: no such thing": """: org.apache.spark.SparkException: Job aborted due to stage failure
org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "x.py", line 1, in f
ValueError: no such thing

\tat org.apache.spark.api.python.BasePythonRunner(PythonRunner.scala:1)
Driver stacktrace:
\tat a.b(C.java:1)
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "x.py", line 1, in f
ValueError: no such thing

\t... 1 more
""",
    "invalid null input: name": """Exception in thread "main" LoginException: NPE: invalid null input: name
\tat a.b(C.java:1)
""",
}  # fmt: skip


@pytest.mark.parametrize("reason", REPORTS)
def test_a_report_comes_down_to_its_innermost_reason_and_no_frame(reason: str) -> None:
    assert innermost(REPORTS[reason]).endswith(reason)


def test_a_report_without_a_named_error_gives_its_last_line() -> None:
    assert innermost("Error: Unrecognized option: --nonsense\n\n") == "Error: Unrecognized option: --nonsense"
    assert innermost("") == ""
