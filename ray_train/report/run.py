"""Stub."""
OPTION, HELP = "--run", "stub"
