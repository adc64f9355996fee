"""What is kept: the Orbax store, checkpoint names and fingerprints."""
