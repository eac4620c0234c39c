"""Training and evaluation of a multimodal process reward model (MPRM), with Ray Train and Ray Data."""
