"""Whether a task can be asked of a model: behaviour, judges, cues and re-asking, before any training."""
