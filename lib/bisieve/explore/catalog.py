"""Questions about all rollouts of an index: pages, counts, ids; and what is marked to be left out."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from bisieve.explore.database import Database, duckdb_errors
from bisieve.explore.filters import Filters, order

_COLUMNS = (
    "source", "rank", "rollout_id", "question_id", "bis", "mixture", "positive_fraction", "reliability",
    "num_steps", "num_positive", "kept", "was_kept",
)  # fmt: skip
_AT_ONCE = 50_000  # ids
_QUESTION = 200  # characters of a question in a row


class Catalog(Database):
    """Answers questions; safe to use from several threads."""

    def page(
        self, filters: Filters, by: str, descending: bool, first: int, rows: int
    ) -> list[dict[str, Any]]:
        """Return up to ``rows`` rollouts from number ``first`` (0 is the first) of those that pass.

        Raises:
            UsageError: There is no column ``by``.
        """
        where, values = filters.where()
        names, sequence = ", ".join(_COLUMNS), order(by, descending)
        return self.rows(
            f"SELECT page.*, left(question, {_QUESTION}) AS question FROM (SELECT {names}, "
            f"rollout_id IN (FROM marked) AS marked FROM rollouts WHERE {where} "
            f"ORDER BY {sequence} LIMIT $rows OFFSET $first) AS page "
            f"LEFT JOIN questions USING (question_id) ORDER BY {sequence}",
            {**values, "rows": rows, "first": first},
        )

    def counts(self, filters: Filters) -> dict[str, int]:
        """Return how many rollouts pass, and how many of these are kept, have entered, and have left."""
        where, values = filters.where()
        (found,) = self.rows(
            "SELECT count(*) AS rollouts, count(*) FILTER (kept) AS kept, "
            "count(*) FILTER (kept AND NOT was_kept) AS entered, "
            'count(*) FILTER (was_kept AND NOT kept) AS "left" '
            f"FROM rollouts WHERE {where}",
            values,
        )
        return found

    def moved(self) -> list[dict[str, Any]]:
        """Return by source how many rollouts there are, are kept, were kept at first, and are in both."""
        return self.rows(
            "SELECT source, count(*) AS rollouts, count(*) FILTER (kept) AS kept, "
            "count(*) FILTER (was_kept) AS was_kept, count(*) FILTER (kept AND was_kept) AS both "
            "FROM rollouts GROUP BY source ORDER BY rollouts DESC, source",
            {},
        )

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

    def first_of_questions(self) -> pa.Table:
        """Return one row a question (question_id, rollout_id, scores, spans), ordered by its place."""
        with duckdb_errors():
            return (
                self.cursor()
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
