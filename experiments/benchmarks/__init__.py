"""Speed, memory and coverage: each module's `run` returns measures."""
