"""Checks of a task on a model before training: behaviour, judges, cues and retests."""
