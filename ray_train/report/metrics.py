"""Stub."""

OPTION, HELP = "--metrics", "stub"
