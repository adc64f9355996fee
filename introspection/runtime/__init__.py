"""Where it runs: mesh, program entry, metrics, progress."""
