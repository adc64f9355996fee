"""Questions about facts, true ones and those of invented worlds, with cues that name an answer."""
