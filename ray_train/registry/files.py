"""Names of the files that runs, checkpoints and evaluations write, by which a folder is recognised.

They are here since most of the modules that write them import torch or Ray.
"""

RUN = "run.json"  # of an output, from the start of the run: `checkpoints.run_dir`
LEASE = "driver.json"  # of an output, while a driver uses it: `checkpoints.lease`
CURSOR = "cursor.json"  # of a checkpoint: `checkpoints.state`
METRICS = "metrics.json"  # of an evaluation: `evaluation.scores_file`
BEST_OF = "best-of.json"  # of picks: `evaluation.best_of`
