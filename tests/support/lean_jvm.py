"""Options of the JVMs that tests start: they live for seconds, where compiling as if for hours only costs."""

ONE_COMPILER = "-XX:TieredStopAtLevel=1"  # of spark-submit: a small job takes 10 CPU seconds, not 21
LEAN_JVM = f"{ONE_COMPILER} -XX:+UseSerialGC"
