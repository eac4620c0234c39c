"""The generated pages of docs/reference are those that the code gives now."""

import sys

import pytest
from support.markdown import ROOT

sys.path.insert(0, str(ROOT / "infra/docs"))
from reference import pages


@pytest.mark.parametrize("name", list(pages()))
def test_a_generated_page_is_up_to_date(name: str) -> None:
    stored = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert stored == pages()[name], "the code has changed: run make docs, and commit what it writes"


def test_every_command_and_option_has_a_line() -> None:
    commands = pages()["reference/cli.md"]
    for name in ("score", "rank", "promote", "lineage", "submit", "doctor"):
        assert f"\n## bisieve {name}\n" in commands
    assert "\n- `--alpha ALPHA`: α of the score (default: 0.05)\n" in commands
    assert "\n- `global_batch` (int; default `512`; *learned*): " in pages()["reference/config.md"]
