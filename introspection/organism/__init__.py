"""The project's model organism: its world, its pretraining and its behaviour."""
