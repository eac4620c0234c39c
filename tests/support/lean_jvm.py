"""Options of the JVMs that tests start: they live for seconds, in which the compiler for hours only costs."""

LEAN_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"  # 10 CPU seconds for a small job of a new Spark, not 21
