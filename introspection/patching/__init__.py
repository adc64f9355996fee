"""Patching: whether behaviour and its explanation depend on the same parts of a model."""
