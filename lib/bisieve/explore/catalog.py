"""Queries over all rollouts of an index: pages, counts, ids; and what is marked to be left out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from bisieve.explore.database import Database, duckdb_errors
from bisieve.explore.filters import Filters, Where, order

_COLUMNS = (
    "source", "rank", "rollout_id", "question_id", "bis", "mixture", "positive_fraction", "reliability",
    "num_steps", "num_positive", "kept", "was_kept",
)  # fmt: skip
_COUNTED = (
    "SELECT {'rollouts': count(*), 'kept': count(*) FILTER (kept), 'entered': count(*) FILTER (kept AND NOT "
    "was_kept), 'left': count(*) FILTER (was_kept AND NOT kept)} AS counts FROM passing"
)
_AT_ONCE = 50_000  # ids
_READ_AT_ONCE = 2**15  # rows with questions
_QUESTION = 200  # characters of a question in a row


class Catalog(Database):
    """The queries; safe to use from several threads."""

    def find(
        self, filters: Filters, by: str, descending: bool, first: int, rows: int
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Return up to ``rows`` rollouts from number ``first`` (0 is the first) of those that pass.

        Returns:
            These rollouts; and of all that pass, as `counts`, how many they are.

        Raises:
            UsageError: There is no column ``by``.
        """
        passing, values = _passing(filters)
        sequence = order(by, descending)
        page = (
            f"SELECT page.*, left(question, {_QUESTION}) AS question FROM "
            "(SELECT *, rollout_id IN (FROM marked) AS marked FROM passing "
            f"ORDER BY {sequence} LIMIT $rows OFFSET $first) AS page "
            f"LEFT JOIN questions USING (question_id) ORDER BY {sequence}"
        )
        values = {**values, "rows": rows, "first": first}
        if not filters.text:
            return self.rows(f"{passing} {page}", values), self.counts(filters)
        # A search looks at all texts, which is enough once; there is a row even if none passes.
        both = f"{passing}, page AS ({page}) FROM ({_COUNTED}) LEFT JOIN page ON true ORDER BY {sequence}"
        found = self.rows(both, values)
        counts = [row.pop("counts") for row in found]
        return [row for row in found if row["rollout_id"] is not None], counts[0]

    def counts(self, filters: Filters) -> dict[str, int]:
        """Return how many rollouts pass, and how many of these are kept, have entered, and have left."""
        passing, values = _passing(filters)
        (found,) = self.rows(f"{passing} {_COUNTED}", values)
        counts: dict[str, int] = found["counts"]
        return counts

    def moved(self) -> list[dict[str, Any]]:
        """Return by source how many rollouts there are, are kept, were kept at first, and are in both."""
        return self.rows(
            "SELECT source, count(*) AS rollouts, count(*) FILTER (kept) AS kept, "
            "count(*) FILTER (was_kept) AS was_kept, count(*) FILTER (kept AND was_kept) AS both "
            "FROM rollouts GROUP BY source ORDER BY rollouts DESC, source",
            {},
        )

    def unwritable_id(self, filters: Filters) -> list[str]:
        """Return an id of a rollout that passes and that no line of a file can have; [] if there is none."""
        where, values = filters.where()
        broken = "(contains(rollout_id, chr(10)) OR ends_with(rollout_id, chr(13)))"
        found = self.rows(f"SELECT rollout_id FROM rollouts WHERE {where} AND {broken} LIMIT 1", values)
        return [row["rollout_id"] for row in found]

    def ids(self, filters: Filters) -> Iterator[str]:
        """Yield the different ids of the rollouts that pass, in chunks of text, one id a line."""
        where, values = filters.where()
        cursor = self.cursor()
        cursor.execute(f"SELECT DISTINCT rollout_id FROM rollouts WHERE {where} ORDER BY rollout_id", values)
        while chunk := cursor.fetchmany(_AT_ONCE):
            yield "".join(f"{rollout_id}\n" for (rollout_id,) in chunk)

    def mark(self, ids: Sequence[str], is_marked: bool) -> None:
        """Mark ids to be left out, or unmark them."""
        cursor = self.cursor()
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
        self.cursor().execute(statement, values).fetchall()

    def is_marked(self, rollout_id: str) -> bool:
        """Return whether an id is marked."""
        return bool(self.rows("FROM marked WHERE rollout_id = $rollout_id", {"rollout_id": rollout_id}))

    @property
    def number_marked(self) -> int:
        """Return how many ids are marked."""
        (found,) = self.rows("SELECT count(*) AS ids FROM marked", {})
        return int(found["ids"])

    @property
    def marked(self) -> list[str]:
        """Return the marked ids, sorted."""
        found = self.cursor().execute("FROM marked ORDER BY rollout_id").fetchall()
        return [rollout_id for (rollout_id,) in found]

    @contextmanager
    def first_of_questions(self) -> Iterator[tuple[int, Iterator[pa.Table]]]:
        """Find one row a question (question_id, rollout_id, scores, spans).

        Yields:
            Their number; and the rows, ordered by their place, in tables that fit into memory.
        """
        with duckdb_errors(), self.in_background() as connection:
            connection.execute(
                "CREATE TEMP TABLE firsts AS SELECT question_id, "
                "arg_min({rollout_id: rollout_id, scores: scores, spans: spans}, rank) AS first "
                "FROM stored GROUP BY question_id"
            )
            ((number,),) = connection.sql("SELECT count(*) FROM firsts").fetchall()
            batches = connection.sql(
                "SELECT question_id, first.rollout_id, first.scores, first.spans FROM firsts "
                "ORDER BY first.spans[1].shard, first.spans[1].offset"
            ).to_arrow_reader(_READ_AT_ONCE)
            yield number, (pa.Table.from_batches([each]) for each in batches)

    def add_questions(self, questions: pa.Table) -> None:
        """Add the text of questions, a table of ``question_id`` and ``question``."""
        cursor = self.cursor()
        cursor.register("given", questions)
        cursor.execute("INSERT INTO questions SELECT question_id, question, lower(question) FROM given")

    def rejects(self, source: str, reason: str, first: int, rows: int) -> list[dict[str, Any]]:
        """Return up to ``rows`` rejected records of a source and a reason, "" for any, from ``first`` on."""
        values = {"source": source, "reason": reason, "rows": rows, "first": first}
        return self.rows(
            'SELECT source, reason, rollout_id, shard, "offset", length FROM rejects '
            "WHERE ($source = '' OR source = $source) AND ($reason = '' OR reason = $reason) "
            'ORDER BY shard, "offset" LIMIT $rows OFFSET $first',
            values,
        )


def _passing(filters: Filters) -> Where:
    """Return the beginning of a statement that names the rollouts that pass ``passing``."""
    where, values = filters.where()
    # A search looks at all texts, so its result is computed once; any other condition is inlined.
    storing = "MATERIALIZED" if filters.text else "NOT MATERIALIZED"
    return f"WITH passing AS {storing} (SELECT {', '.join(_COLUMNS)} FROM rollouts WHERE {where})", values
