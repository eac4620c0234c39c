"""``bisieve doctor``: what a machine, a store or a cluster lacks, said before a run needs it."""
