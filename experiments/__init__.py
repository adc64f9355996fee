"""Thin programs: parse flags, call the library."""
