"""The two ways in which a program stops on purpose; each becomes one line on stderr and an exit code."""


class InputError(ValueError):
    """What the user gave can't be used: a config, a file, a checkpoint name. Exit code 2, nothing written.

    The message is one line that names the file, field or row and says what to do.
    """


class RunError(RuntimeError):
    """Something failed while running (NaN loss, disk full). Exit code 1, the last good state is kept."""
