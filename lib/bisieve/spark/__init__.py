"""The thin Spark shell over the engine-free scan; the only corner of the library that imports pyspark."""
