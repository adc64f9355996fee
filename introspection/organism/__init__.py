"""The model organism that comes with the project: its world, its pretraining, and how it behaves."""
