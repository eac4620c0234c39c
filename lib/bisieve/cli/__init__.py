"""The subcommands of ``bisieve``: each parses and calls.

A command module has ``HELP``, ``configure(parser)`` and ``run(args) -> exit code``, and imports what is heavy
inside ``run``.
"""
