"""``bisieve doctor``: check this machine, stores and clusters before a run needs them."""
