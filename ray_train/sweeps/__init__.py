"""Train and evaluate many times over one index, to find out which selection is enough."""
