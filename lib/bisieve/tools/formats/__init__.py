"""Formats of other trainers and of the Hugging Face hub that a selection is exported to."""
