"""Thin programs: parse flags, call the library."""

from introspection.runtime.interrupts import keep_interrupts

keep_interrupts()  # first: a command loads for seconds, and Ctrl-C must count then, too
