"""The study: what a selection is worth, over corpora, seeds and fractions (docs/study.md)."""
