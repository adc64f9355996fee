"""Questions about facts, true or invented, with cues that name an answer."""
