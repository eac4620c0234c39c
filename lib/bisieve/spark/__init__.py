"""The engine of a cluster: the pipeline on Spark.  With `bisieve.doctor`, the only code that imports pyspark.

engine        implements the interface of `bisieve.pipeline.engine` on RDDs
session       starts Spark (environment, java, secret: its checks) and translates its errors
stages        progress and task retries of a running job
daemon        the parent process of Spark's Python workers, on one machine
"""
