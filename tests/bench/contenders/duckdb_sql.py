"""Scores a corpus with DuckDB.

It knows the file of a record and, since a table keeps the order of what was read, its line number; neither
offset nor length, and nothing of its bytes: the ids are hashes of its fields.
"""

import argparse
from pathlib import Path

import duckdb

READ = """
    CREATE TEMP TABLE scored AS
    WITH records AS (
        SELECT parse_filename(filename) AS shard, image,
               trim(coalesce(nullif(question_orig, ''), question)) AS question,
               steps_with_score AS steps
        FROM read_json($input, format = 'newline_delimited', filename = true, columns = {
            image: 'VARCHAR', question: 'VARCHAR', question_orig: 'VARCHAR',
            steps_with_score:
                'STRUCT(step VARCHAR, score DOUBLE, num_mc_correct INTEGER, num_mc_total INTEGER)[]'
        })
    ), lists AS (
        SELECT shard, image, question, steps,
               list_transform(steps, lambda step: step.score) AS scores,
               list_filter(scores, lambda score: score > 0) AS positives,
               image <> '' AND question <> '' AND len(steps) > 0 AND len(list_filter(steps,
                   lambda step: trim(step.step) <> '' AND step.score BETWEEN 0 AND 1)) = len(steps) AS usable
        FROM records
    )
    SELECT shard,
           hash(image, question, steps) AS rollout_id,
           hash(image, question) AS question_id,
           len(positives) / len(scores) AS positive_fraction,
           CASE WHEN len(positives) > 0 THEN list_sum(positives) / len(positives) ELSE 1 END AS reliability,
           (positive_fraction * (1 - positive_fraction) + 0.05::DOUBLE) * reliability AS bis,
           len(scores)::INTEGER AS num_steps,
           len(positives)::INTEGER AS num_positive,
           scores,
           list_transform(steps, lambda step: step.num_mc_correct) AS mc_correct,
           list_transform(steps, lambda step: step.num_mc_total) AS mc_total,
           coalesce(usable, false) AS usable
    FROM lists
"""

RANK = """
    COPY (
        SELECT parse_filename(shard, true) AS source,
               row_number() OVER (PARTITION BY shard ORDER BY bis DESC, row) AS rank,
               rollout_id, question_id, bis, positive_fraction, reliability, num_steps, num_positive,
               scores, mc_correct, mc_total, shard, row - first + 1 AS line
        FROM (SELECT *, rowid AS row FROM scored)
        JOIN (SELECT shard, min(rowid) AS first FROM scored GROUP BY shard) USING (shard)
        WHERE usable
        ORDER BY source, rank
    ) TO '{output}' (FORMAT parquet, COMPRESSION zstd)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True)
    connection = duckdb.connect()
    shards = sorted(str(shard) for shard in args.input.glob("*.jsonl"))
    connection.execute(READ, {"input": shards})
    connection.execute(RANK.format(output=args.output / "ranked.parquet"))


if __name__ == "__main__":
    main()
