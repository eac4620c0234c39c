"""Scores a corpus with Spark's own JSON reader and a window.

The schema is given, so nothing is read to infer it; everything stays in the JVM.  Spark knows the file and
the block that a record came from, but neither its offset, its length nor its line number, and nothing of its
bytes: the ids are hashes of its fields.
"""

import argparse

from pyspark.sql import SparkSession

SCHEMA = """
    image STRING, question STRING, question_orig STRING,
    steps_with_score ARRAY<STRUCT<step STRING, score DOUBLE, num_mc_correct INT, num_mc_total INT>>
"""

QUERY = """
    WITH read AS (
        SELECT regexp_extract(file_name, '(.*)[.]jsonl$', 1) AS source,
               file_name AS shard,
               file_block_start AS block,
               monotonically_increasing_id() AS place,  -- rises inside a block
               image,
               trim(coalesce(nullif(question_orig, ''), question)) AS question,
               steps_with_score AS steps
        FROM records
    ), usable AS (
        SELECT *, steps.score AS scores, filter(steps.score, score -> score > 0D) AS positives FROM read
        WHERE image <> '' AND question <> '' AND size(steps) > 0
          AND forall(steps, step -> trim(step.step) <> '' AND step.score BETWEEN 0D AND 1D)
    ), parts AS (
        SELECT *, size(positives) / size(scores) AS p,
               aggregate(positives, 0D, (sum, score) -> sum + score) AS sum
        FROM usable
    ), rated AS (
        SELECT *, if(size(positives) > 0, sum / size(positives), 1D) AS reliability FROM parts
    ), scored AS (
        SELECT source, hex(xxhash64(image, question, steps)) AS rollout_id,
               hex(xxhash64(image, question)) AS question_id,
               (p * (1D - p) + 0.05D) * reliability AS bis, p AS positive_fraction, reliability,
               size(scores) AS num_steps, size(positives) AS num_positive, scores,
               steps.num_mc_correct AS mc_correct, steps.num_mc_total AS mc_total, shard, block, place
        FROM rated
    )
    SELECT row_number() OVER (PARTITION BY source ORDER BY bis DESC, block, place) AS rank, * FROM scored
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    args = parser.parse_args()
    builder = SparkSession.builder.master("local[*]").config("spark.driver.memory", "6g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.shuffle.partitions", "38")
    spark = builder.config("spark.sql.parquet.compression.codec", "zstd").getOrCreate()
    records = spark.read.schema(SCHEMA).json(args.input)
    placed = records.select("*", "_metadata.file_name", "_metadata.file_block_start")
    placed.createOrReplaceTempView("records")
    spark.sql(QUERY).drop("place").write.parquet(args.output)
    spark.stop()


if __name__ == "__main__":
    main()
