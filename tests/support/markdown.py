"""The README and the pages of docs/ as tests look at them: headings, links, and blocks of code."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
OTHERS = [ROOT / name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]

_BLOCK = re.compile(r"^(?:<!-- ([^\n]*?) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of code."""

    language: str
    text: str
    note: str  # the HTML comment right before the fence, which readers do not see
    line: int  # of its fence in the page, from 1

    @property
    def is_run(self) -> bool:
        """Whether a test runs it, and not only checks what its commands are given."""
        return not self.note


@dataclass(frozen=True)
class Page:
    """A page of documentation."""

    path: Path

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def blocks(self) -> list[Block]:
        found = []
        for match in _BLOCK.finditer(self.text):
            note, language, text = match.groups()
            found.append(
                Block(language, text, note or "", self.text[: match.start()].count("\n") + 1 + bool(note))
            )
        return found

    @cached_property
    def prose(self) -> str:
        """The text without blocks of code and comments."""
        return re.sub(r"<!--.*?-->", "", _BLOCK.sub("", self.text), flags=re.DOTALL)

    @cached_property
    def anchors(self) -> set[str]:
        """Names of the headings in links, as GitHub makes them; a repeated one gets a number."""
        names: list[str] = []
        for heading in re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
            name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            names.append(f"{name}-{names.count(name)}" if name in names else name)
        return set(names)

    @cached_property
    def links(self) -> list[str]:
        without_code = re.sub(r"`[^`\n]*`", "", self.prose)
        return re.findall(r"\]\(([^)\s]+)\)", without_code)


def page_id(path: Path) -> str:
    """Return the path of a page below the root, for the name of a test."""
    return str(path.relative_to(ROOT))
