"""The Orbax store, checkpoint names and fingerprints."""
