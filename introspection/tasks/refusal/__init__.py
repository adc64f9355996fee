"""Requests that a model may refuse, with sentences that sway it."""
