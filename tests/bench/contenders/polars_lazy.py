"""Scores a corpus with Polars' streaming engine.

It knows the file of a record and its line number; neither offset nor length, and nothing of its bytes: the
ids are hashes of its fields.
"""

import argparse
from pathlib import Path

import polars as pl

ALPHA = 0.05
STEP = pl.Struct(
    {"step": pl.String, "score": pl.Float64, "num_mc_correct": pl.Int32, "num_mc_total": pl.Int32}
)
SCHEMA = {
    "image": pl.String,
    "question": pl.String,
    "question_orig": pl.String,
    "steps_with_score": pl.List(STEP),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    args.output.mkdir(parents=True)
    shards = sorted(args.input.glob("*.jsonl"))
    records = pl.scan_ndjson(shards, schema=SCHEMA, row_index_name="row", include_file_paths="path")
    ranked = rank(score(records).collect(engine="streaming"))
    ranked.write_parquet(args.output / "ranked.parquet", compression="zstd")


def score(records: pl.LazyFrame) -> pl.LazyFrame:
    """The usable rollouts, scored, without their text."""
    steps, element = pl.col("steps_with_score"), pl.element()
    question = pl.when(pl.col("question_orig") != "").then("question_orig").otherwise("question")
    good_step = (element.struct.field("step").str.strip_chars() != "") & element.struct.field(
        "score"
    ).is_between(0, 1)
    p = pl.col("num_positive") / pl.col("num_steps")
    mean = pl.col("scores").list.sum() / pl.col("num_positive")  # what is not positive adds nothing
    return (
        records.with_columns(question=question.str.strip_chars())
        .filter(
            pl.col("image") != "",
            pl.col("question") != "",
            steps.list.len() > 0,
            steps.list.eval(good_step.fill_null(False)).list.all(),
        )
        .select(
            "path",
            "row",
            rollout_id=pl.struct("image", "question", "steps_with_score").hash(),
            question_id=pl.struct("image", "question").hash(),
            scores=steps.list.eval(element.struct.field("score")),
            mc_correct=steps.list.eval(element.struct.field("num_mc_correct")),
            mc_total=steps.list.eval(element.struct.field("num_mc_total")),
        )
        .with_columns(
            num_steps=pl.col("scores").list.len().cast(pl.Int32),
            num_positive=pl.col("scores").list.eval(element > 0).list.sum().cast(pl.Int32),
        )
        .with_columns(
            positive_fraction=p,
            reliability=pl.when(pl.col("num_positive") > 0).then(mean).otherwise(1.0),
        )
        .with_columns(
            bis=(pl.col("positive_fraction") * (1 - pl.col("positive_fraction")) + ALPHA)
            * pl.col("reliability"),
            source=pl.col("path").str.split("/").list.last().str.strip_suffix(".jsonl"),
        )
    )


def rank(scored: pl.DataFrame) -> pl.DataFrame:
    """By source, the best first, ties in file order."""
    ordered = scored.sort("source", "bis", "row", descending=[False, True, False])
    return ordered.with_columns(rank=pl.int_range(1, pl.len() + 1).over("source"))


if __name__ == "__main__":
    main()
