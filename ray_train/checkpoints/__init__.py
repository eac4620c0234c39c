"""Where a run stands, written so that any number of workers can go on from it."""
