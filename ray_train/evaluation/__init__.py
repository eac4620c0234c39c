"""How well a model finds wrong steps."""
