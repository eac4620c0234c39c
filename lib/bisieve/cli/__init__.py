"""The subcommands of ``bisieve``, one module each.

A command module has the texts ``HELP`` and ``EXAMPLE``, the ``GROUP`` under which ``bisieve --help`` lists it
(`overview`), and the functions ``configure(parser)``, which declares its options, and ``run(args)``, which
returns the exit code. Heavy imports are inside ``run``, so that parsing is fast. With
``WITHOUT_PANDAS = True`` a module keeps pyarrow from importing pandas.
"""
