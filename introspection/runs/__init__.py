"""The main job and what stands beside it: run, compare, export."""
