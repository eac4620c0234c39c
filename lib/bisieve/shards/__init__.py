"""Files of records: found, split among tasks, read in sequence and by span."""
