"""Speed, memory and coverage: each module has a `run` that returns measures."""
