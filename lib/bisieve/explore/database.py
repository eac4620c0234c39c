"""An index in DuckDB: its own Parquet files as views, and the selection that is shown.

``stored``, ``rejects``    rows of the index, and of its rejected records
``rollouts``               rows of the ranking that is shown, with ``kept`` and ``was_kept``: whether the
                           selection that is shown, and the first one, have the rollout
``marked``, ``questions``  ids to leave out; the text of questions, as far as it is read
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from bisieve.errors import IndexUnusableError
from bisieve.index.manifest import DataFile
from bisieve.index.reader import HINT, Index, read_part
from bisieve.io.urls import is_local, join
from bisieve.report.rows import View

_SHOWN = (
    "source, rank, rollout_id, question_id, bis, positive_fraction * (1 - positive_fraction) AS mixture, "
    "positive_fraction, reliability, num_steps, num_positive"
)
_BACKGROUND_MEMORY = "2GB"  # what does not fit is in the folder
_PLACE = "spans[1].shard AS shard, spans[1].offset AS place"  # of a rollout: no two begin at the same


class Database:
    """The tables; safe to use from several threads.

    Args:
        index: The version to look at.
        folder: For what does not fit into memory, and for copies of an index that is not on a local disk.
        view: The first selection.
    """

    def __init__(self, index: Index, folder: Path, view: View) -> None:
        self._settings, self._views = _settings(folder), dict[str, str]()
        self._background: list[duckdb.DuckDBPyConnection] = []
        self._connection = duckdb.connect(config=self._settings)
        run = self._connection.execute
        self._read(index, "stored", index.files, folder)
        self._read(index, "rejects", index.rejects, folder)
        run("CREATE TABLE marked (rollout_id VARCHAR PRIMARY KEY)")
        run("CREATE TABLE questions (question_id VARCHAR, question VARCHAR, lowered VARCHAR)")
        self._limits("first_limits", view.limits)
        self.show(view)

    def _read(self, index: Index, name: str, files: Sequence[DataFile], folder: Path) -> None:
        if not files:
            return
        paths = [_local_path(index, file, folder) for file in files]
        listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        self._views[name] = f"CREATE VIEW {name} AS FROM read_parquet([{listed}])"
        self._connection.execute(self._views[name])

    @contextmanager
    def in_background(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Open the files of the index once more, for a statement that leaves the other cores to requests."""
        settings = {**self._settings, "threads": 1, "memory_limit": _BACKGROUND_MEMORY}
        with duckdb.connect(config=settings) as connection:
            for view in self._views.values():
                connection.execute(view)
            self._background.append(connection)
            try:
                yield connection
            finally:
                self._background.remove(connection)

    def interrupt_background(self) -> None:
        """Stop what runs in the background; it ends with an error."""
        for connection in list(self._background):
            connection.interrupt()

    def _limits(self, name: str, limits: dict[str, int]) -> None:
        given = pa.table({"source": list(limits), "last": pa.array(limits.values(), pa.int64())})
        cursor = self.cursor()
        cursor.register("given", given)
        cursor.execute(f"CREATE OR REPLACE TABLE {name} AS FROM given")

    def show(self, view: View) -> None:
        """Show the ranking and the selection of ``view``."""
        self._limits("limits", view.limits)
        cursor = self.cursor()
        if view.in_memory is None:
            cursor.execute(
                f"CREATE OR REPLACE VIEW rollouts AS SELECT {_SHOWN}, rank <= l.last AS kept, "
                "rank <= f.last AS was_kept FROM stored JOIN limits l USING (source) "
                "JOIN first_limits f USING (source)"
            )
            cursor.execute("DROP TABLE IF EXISTS reranked")
            return
        cursor.register("ranked", view.in_memory.rows.drop_columns(["spans", "scores"]))
        cursor.execute(
            f"CREATE OR REPLACE TABLE reranked AS WITH was AS (SELECT {_PLACE}, rank <= f.last AS was_kept "
            "FROM stored JOIN first_limits f USING (source)), now AS (SELECT source::VARCHAR AS source, "
            f'rank, shard::VARCHAR AS shard, "offset" AS place, COLUMNS(* EXCLUDE (source, rank, shard, '
            '"offset")) FROM ranked) '
            f"SELECT {_SHOWN}, rank <= l.last AS kept, was_kept FROM now JOIN was USING (shard, place) "
            "JOIN limits l USING (source)"
        )
        cursor.execute("CREATE OR REPLACE VIEW rollouts AS FROM reranked")

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own to the tables."""
        return self._connection.cursor()

    def rows(self, statement: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the rows that a statement gives, as dicts.

        Args:
            statement: In SQL.
            values: Of its parameters, by name.

        Raises:
            IndexUnusableError: DuckDB cannot read the index.
        """
        with duckdb_errors():
            cursor = self.cursor().execute(statement, values)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _settings(folder: Path) -> dict[str, str | bool | int | float | list[str]]:
    """Return settings of DuckDB: it spills into ``folder``, and never loads an extension from elsewhere."""
    return {
        "temp_directory": str(folder), "preserve_insertion_order": False,
        "autoinstall_known_extensions": False, "autoload_known_extensions": False,
    }  # fmt: skip


@contextmanager
def duckdb_errors() -> Iterator[None]:
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
