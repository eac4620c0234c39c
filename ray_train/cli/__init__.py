"""The subcommands ``bisieve train`` and ``bisieve evaluate``."""
