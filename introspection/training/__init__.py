"""How a model changes: objectives, the step, the loop and concurrent shifts."""
