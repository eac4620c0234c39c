"""The trainer and the evaluator: an MPRM learned with Ray Train, scored with Ray Data."""
