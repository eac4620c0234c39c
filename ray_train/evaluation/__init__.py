"""Evaluation of a process reward model on a benchmark of solutions with judged steps."""
