"""The rollouts of an index as a table of DuckDB, over the index's own Parquet files.

Views: ``stored`` (rows of the index), ``rollouts`` (rows of the selection that is shown, with ``kept`` and
``was_kept``: whether it and the first selection have the rollout).  Tables: ``marked`` (ids to leave out),
``questions`` (their text, as far as it is read).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bisieve.errors import IndexUnusableError
from bisieve.explore.filters import Filters, order
from bisieve.index.manifest import DataFile
from bisieve.index.reader import HINT, Index, read_part
from bisieve.io.urls import is_local, join
from bisieve.report.rows import View

_SHOWN = (
    "source, rank, rollout_id, question_id, bis, positive_fraction * (1 - positive_fraction) AS mixture, "
    "positive_fraction, reliability, num_steps, num_positive"
)
_COLUMNS = (
    "source", "rank", "rollout_id", "question_id", "bis", "mixture", "positive_fraction", "reliability",
    "num_steps", "num_positive", "kept", "was_kept",
)  # fmt: skip
_PLACE = "spans[1].shard AS shard, spans[1].offset AS place"  # of a rollout: no two begin at the same
_AT_ONCE = 50_000  # ids
_QUESTION = 200  # characters of a question in a row


class Catalog:
    """Answers questions about all rollouts; safe to use from several threads.

    Args:
        index: The version to look at.
        folder: For what does not fit into memory, and for copies of an index that is not on a local disk.
        view: The first selection.
    """

    def __init__(self, index: Index, folder: Path, view: View) -> None:
        self._database = duckdb.connect(config=_settings(folder))
        run = self._database.execute
        self._reads(index, "stored", index.files, folder)
        self._reads(index, "rejects", index.rejects, folder)
        run("CREATE TABLE marked (rollout_id VARCHAR PRIMARY KEY)")
        run("CREATE TABLE questions (question_id VARCHAR, question VARCHAR)")
        self._limits("first_limits", view.limits)
        self.show(view)

    def _reads(self, index: Index, name: str, files: Sequence[DataFile], folder: Path) -> None:
        if not files:
            return
        paths = [_local_path(index, file, folder) for file in files]
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        self._database.execute(f"CREATE VIEW {name} AS FROM read_parquet([{listed}])")

    def _limits(self, name: str, limits: dict[str, int]) -> None:
        given = pa.table({"source": list(limits), "last": pa.array(limits.values(), pa.int64())})
        cursor = self._database.cursor()
        cursor.register("given", given)
        cursor.execute(f"CREATE OR REPLACE TABLE {name} AS FROM given")

    def show(self, view: View) -> None:
        """Show the ranking and the selection of ``view``."""
        self._limits("limits", view.limits)
        cursor = self._database.cursor()
        if view.in_memory is None:
            cursor.execute(
                f"CREATE OR REPLACE VIEW rollouts AS SELECT {_SHOWN}, rank <= l.last AS kept, "
                "rank <= f.last AS was_kept FROM stored JOIN limits l USING (source) "
                "JOIN first_limits f USING (source)"
            )
            return
        cursor.register("ranked", view.in_memory.rows.drop_columns(["spans", "scores"]))
        cursor.execute(
            f"CREATE OR REPLACE TABLE again AS WITH was AS (SELECT {_PLACE}, rank <= f.last AS was_kept "
            "FROM stored JOIN first_limits f USING (source)), now AS (SELECT source::VARCHAR AS source, "
            f'rank, shard::VARCHAR AS shard, "offset" AS place, COLUMNS(* EXCLUDE (source, rank, shard, '
            '"offset")) FROM ranked) '
            f"SELECT {_SHOWN}, rank <= l.last AS kept, was_kept FROM now JOIN was USING (shard, place) "
            "JOIN limits l USING (source)"
        )
        cursor.execute("CREATE OR REPLACE VIEW rollouts AS FROM again")

    def page(
        self, filters: Filters, by: str, descending: bool, first: int, rows: int
    ) -> list[dict[str, Any]]:
        """Return up to ``rows`` rollouts from number ``first`` (0 is the first) of those that pass.

        Raises:
            UsageError: There is no column ``by``.
        """
        where, values = filters.where()
        names, sequence = ", ".join(_COLUMNS), order(by, descending)
        return self._dicts(
            f"SELECT page.*, left(question, {_QUESTION}) AS question FROM (SELECT {names}, "
            f"rollout_id IN (FROM marked) AS marked FROM rollouts WHERE {where} "
            f"ORDER BY {sequence} LIMIT $rows OFFSET $first) AS page "
            f"LEFT JOIN questions USING (question_id) ORDER BY {sequence}",
            {**values, "rows": rows, "first": first},
        )

    def counts(self, filters: Filters) -> dict[str, int]:
        """Return how many rollouts pass, and how many of these are kept, have entered, and have left."""
        where, values = filters.where()
        (found,) = self._dicts(
            "SELECT count(*) AS rollouts, count(*) FILTER (kept) AS kept, "
            "count(*) FILTER (kept AND NOT was_kept) AS entered, "
            'count(*) FILTER (was_kept AND NOT kept) AS "left" '
            f"FROM rollouts WHERE {where}",
            values,
        )
        return found

    def moved(self) -> list[dict[str, Any]]:
        """Return by source how many rollouts there are, are kept, were kept at first, and are in both."""
        return self._dicts(
            "SELECT source, count(*) AS rollouts, count(*) FILTER (kept) AS kept, "
            "count(*) FILTER (was_kept) AS was_kept, count(*) FILTER (kept AND was_kept) AS both "
            "FROM rollouts GROUP BY source ORDER BY rollouts DESC, source",
            {},
        )

    def ids(self, filters: Filters) -> Iterator[str]:
        """Yield the different ids of the rollouts that pass, in chunks of text, one id a line."""
        where, values = filters.where()
        cursor = self._database.cursor()
        cursor.execute(f"SELECT DISTINCT rollout_id FROM rollouts WHERE {where} ORDER BY rollout_id", values)
        while chunk := cursor.fetchmany(_AT_ONCE):
            yield "".join(f"{rollout_id}\n" for (rollout_id,) in chunk)

    def mark(self, ids: Sequence[str], is_marked: bool) -> None:
        """Mark ids to be left out, or unmark them."""
        cursor = self._database.cursor()
        cursor.register("given", pa.table({"rollout_id": pa.array(sorted(set(ids)), pa.string())}))
        if is_marked:
            cursor.execute("INSERT OR IGNORE INTO marked FROM given")
        else:
            cursor.execute("DELETE FROM marked WHERE rollout_id IN (FROM given)")

    def mark_all(self, filters: Filters, is_marked: bool) -> None:
        """Mark the ids of all rollouts that pass, or unmark them."""
        where, values = filters.where()
        chosen = f"SELECT DISTINCT rollout_id FROM rollouts WHERE {where}"
        statement = (
            f"INSERT OR IGNORE INTO marked {chosen}"
            if is_marked
            else f"DELETE FROM marked WHERE rollout_id IN ({chosen})"
        )
        self._database.cursor().execute(statement, values).fetchall()

    @property
    def number_marked(self) -> int:
        """Return how many ids are marked."""
        (found,) = self._dicts("SELECT count(*) AS ids FROM marked", {})
        return int(found["ids"])

    @property
    def marked(self) -> list[str]:
        """Return the marked ids, sorted."""
        found = self._database.cursor().execute("FROM marked ORDER BY rollout_id").fetchall()
        return [rollout_id for (rollout_id,) in found]

    def first_of_questions(self) -> pa.Table:
        """Return one row a question (question_id, rollout_id, scores, spans), ordered by its place."""
        with _errors():
            return (
                self._database.cursor()
                .sql(
                    "SELECT question_id, first.rollout_id, first.scores, first.spans FROM (SELECT "
                    "question_id, arg_min({rollout_id: rollout_id, scores: scores, spans: spans}, rank) "
                    "AS first FROM stored GROUP BY question_id) "
                    "ORDER BY first.spans[1].shard, first.spans[1].offset"
                )
                .to_arrow_table()
            )

    def add_questions(self, questions: pa.Table) -> None:
        """Add the text of questions, a table of ``question_id`` and ``question``."""
        cursor = self._database.cursor()
        cursor.register("given", questions)
        cursor.execute("INSERT INTO questions FROM given")

    def rejects(self, source: str, reason: str, first: int, rows: int) -> list[dict[str, Any]]:
        """Return up to ``rows`` rejected records of a source and a reason, "" for any, from ``first`` on."""
        values = {"source": source, "reason": reason, "rows": rows, "first": first}
        return self._dicts(
            'SELECT source, reason, rollout_id, shard, "offset", length FROM rejects '
            "WHERE ($source = '' OR source = $source) AND ($reason = '' OR reason = $reason) "
            'ORDER BY shard, "offset" LIMIT $rows OFFSET $first',
            values,
        )

    def _dicts(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        with _errors():
            cursor = self._database.cursor().execute(statement, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _settings(folder: Path) -> dict[str, str | bool | int | float | list[str]]:
    """Return settings of DuckDB: it spills into ``folder``, and never loads an extension from elsewhere."""
    return {
        "temp_directory": str(folder), "preserve_insertion_order": False,
        "autoinstall_known_extensions": False, "autoload_known_extensions": False,
    }  # fmt: skip


@contextmanager
def _errors() -> Iterator[None]:
    """Raise an error of DuckDB, such as of a file that is gone meanwhile, as `IndexUnusableError`."""
    try:
        yield
    except duckdb.Error as error:
        found = str(error).partition("\n")[0]
        raise IndexUnusableError("Parquet files of an index that DuckDB can read", found, HINT) from error


def _local_path(index: Index, file: DataFile, folder: Path) -> str:
    """Return the path of a file of an index, which is copied into ``folder`` if it is not on a local disk.

    DuckDB reads "*", "?" and "[" in a path as a pattern, so such a path is copied, too.
    """
    url = join(index.url, file.path)
    path = url.removeprefix("file://")
    if is_local(url) and not set("*?[") & set(path):
        return path
    copy = folder / f"{file.sha256}.parquet"
    copy.write_bytes(read_part(index.url, file))
    return str(copy)
