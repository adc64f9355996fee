"""Starts the project's programs for tests: imports once, then forks for every command it is told.

A program's own start takes seconds, almost all of it imports. A child is forked before any device is
touched, and then runs `python -m <module>` in all but that start.
"""

import importlib
import json
import os
import resource
import runpy
import signal
import sys

PRELOADED = (
    "introspection.runs.run",
    "introspection.runs.compare",
    "introspection.organism.organism",
    "introspection.reports.page",
    # What the library imports where it is used.
    "datasketch",
    "scipy.stats",
    "sklearn.feature_extraction.text",
    "sklearn.linear_model",
)


def serve() -> None:
    """Reads one JSON command a line; answers with its process id, then with its exit code."""
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(command)
            return
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def become(command: dict) -> None:
    """Runs a program in this process, which ends as the program's would."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, path in ((0, os.devnull), (1, command["stdout"]), (2, command["stderr"])):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, stream)
    os.environ.update(command["environment"])
    os.chdir(command["folder"])
    if command["largest_file"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command["largest_file"],) * 2)
    if command["patch"]:
        exec(command["patch"], {})  # what a test breaks on purpose
    sys.argv = [command["module"], *command["arguments"]]
    runpy.run_module(command["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    serve()
