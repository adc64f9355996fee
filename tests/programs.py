"""The project's programs as a user starts them, and what they leave, for the end-to-end tests."""

import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from array_record.python import array_record_module

ROOT = Path(__file__).parent.parent
TINY = "--config=configs/quickstart.py:tiny"


# XLA's quickest way to compile, which is most of a test's time (three tests of test_step, processor time:
# 34 s at LLVM's level 0, 23 s without fusion emitters, too; level 1 takes half as long again).
QUICK_COMPILING = "--xla_backend_optimization_level=0"
if jax.version.__version_info__ < (0, 11):  # later versions may not know it, and would abort
    QUICK_COMPILING += " --xla_cpu_use_fusion_emitters=false"

# A run draws its figures once it has its results; tests of other things leave them out.
NO_FIGURES = "no figures in this test"
NO_REPORT = f"""
import sys
import introspection.runs.run, introspection.runs.compare, introspection.runs.assemble
import introspection.reports.page
drawn = introspection.reports.page.write_report
def write_report(workdir):
    (workdir / "report.html").write_text("{NO_FIGURES}")
    return workdir / "report.html"
for module in list(sys.modules.values()):
    if getattr(module, "write_report", None) is drawn:
        module.write_report = write_report
"""


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


class FinishedRun(NamedTuple):
    workdir: Path
    output: str


class Running:
    """A program that was started and may still run."""

    def __init__(self, server: subprocess.Popen, folder: Path):
        self._server, self._folder, self.ended = server, folder, False
        self.pid = self._answer()["pid"]

    def _answer(self) -> dict[str, int]:
        line = self._server.stdout.readline()
        assert line, "the program server has ended"
        return json.loads(line)

    def output(self) -> str:
        return (self._folder / "stdout").read_text(encoding="utf-8")

    def errors(self) -> str:
        return (self._folder / "stderr").read_text(encoding="utf-8")

    def runs(self) -> bool:
        """Whether `wait` would wait."""
        return not self.ended and not select.select([self._server.stdout], [], [], 0)[0]

    def send(self, number: int) -> None:
        """Sends a signal, if the program still runs."""
        if self.runs():
            os.kill(self.pid, number)

    def wait(self) -> Outcome:
        code = self._answer()["code"]
        self.ended = True
        return Outcome(code, self.output(), self.errors())

    def kill_when(self, condition: Callable[[], Any], seconds: float = 300) -> Outcome:
        """SIGKILL as soon as the condition holds; the test fails if the program ends before."""
        deadline = time.monotonic() + seconds
        while not condition() and self.runs() and time.monotonic() < deadline:
            time.sleep(0.001)
        outcome = self.kill()
        assert outcome.code == -signal.SIGKILL, f"ended before the moment of its kill: {outcome}"
        return outcome

    def kill(self) -> Outcome:
        self.send(signal.SIGKILL)
        return self.wait()


class Programs:
    """Starts programs with a cache of their own."""

    def __init__(self, cache: Path):
        self.cache = cache
        self._last: Running | None = None
        self._server = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore::RuntimeWarning",
                str(Path(__file__).parent / "program_server.py"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that an answer that has come is in the pipe, where `runs` looks
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        )

    def start(
        self,
        name: str,
        *arguments: Any,
        cache: Path | None = None,
        folder: Path = ROOT,
        largest_file: int = 0,
        patch: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> Running:
        """Starts `python -m experiments.<name> <arguments>`."""
        self.end_last()
        output = Path(tempfile.mkdtemp(dir=self.cache.parent))
        for stream in ("stdout", "stderr"):
            (output / stream).touch()
        command = {
            "module": f"experiments.{name}",
            "arguments": [str(argument) for argument in arguments],
            "environment": {
                "INTROSPECTION_CACHE": str(cache or self.cache),
                "COLUMNS": "200",
                **(environment or {}),
            },
            "folder": str(folder),
            "stdout": str(output / "stdout"),
            "stderr": str(output / "stderr"),
            "largest_file": largest_file,
            "patch": patch,
        }
        self._server.stdin.write(json.dumps(command).encode() + b"\n")
        self._last = Running(self._server, output)
        return self._last

    def run(self, name: str, *arguments: Any, **options: Any) -> Outcome:
        """The same, to its end."""
        return self.start(name, *arguments, **options).wait()

    def run_well(self, name: str, *arguments: Any, **options: Any) -> Outcome:
        outcome = self.run(name, *arguments, **options)
        assert outcome.code == 0, outcome.stderr
        return outcome

    def end_last(self) -> None:
        """Ends what a test that failed has left running."""
        if self._last is not None and not self._last.ended:
            self._last.kill()

    def close(self) -> None:
        self.end_last()
        self._server.stdin.close()
        self._server.wait(timeout=60)


def new_cache(folder: Path) -> Path:
    """An empty cache, except that compiled programs are shared by all tests and kept between sessions."""
    programs = ROOT / ".cache" / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True)
    (folder / "programs").symlink_to(programs)
    return folder


def run_tiny_quickstart(programs: Programs) -> FinishedRun:
    """The main job as a process of its own."""
    workdir = programs.cache.parent / "quickstart"
    command = [sys.executable, "-m", "experiments.run", TINY, f"--workdir={workdir}"]
    environment = os.environ | {"INTROSPECTION_CACHE": str(programs.cache), "COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return FinishedRun(workdir, done.stdout)


def one_error_line(outcome: Outcome) -> str:
    """The only line on stderr of a program that stopped on purpose."""
    lines = outcome.stderr.splitlines()
    assert len(lines) == 1, outcome.stderr
    assert lines[0].startswith("error: "), outcome.stderr
    return lines[0]


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Every path below a folder with its content's hash and time of change; {} if there is no folder."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
    }


def read_json(path: Path) -> Any:
    """Strict JSON: NaN and infinities are errors."""
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """A JSON-lines file; lines end at line feeds alone."""
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=_refuse) for line in text[:-1].split("\n")]


def _refuse(constant: str):
    raise ValueError(f"{constant} is no JSON")


def stored_labels(workdir: Path, name: str) -> list[dict[str, Any]]:
    """The labels of a run's folder `labels/NAME`."""
    reader = array_record_module.ArrayRecordReader(str(workdir / "labels" / name / "labels.array_record"))
    lines = reader.read_all()
    reader.close()
    return [json.loads(line) for line in lines]


def comparable_results(workdir: Path, arms: Collection[str]) -> dict[str, Any]:
    """results.json of some arms, without what may differ between two runs of one config."""
    results = read_json(workdir / "results.json")
    del results["versions"], results["runtime_s"]
    for name in set(results["arms"]) - set(arms):
        del results["arms"][name], results["fingerprints"][name]
        for control in results["controls"].values():
            control.pop(name, None)
    if "shuffled" not in arms:  # a reference of the others, without which nobody knows whether labels teach
        del results["askable"]
        results["controls"].pop("shuffled", None)
        for arm in results["arms"].values():
            del arm["askable"]
            arm["references"].pop("shuffled", None)
    for arm in results["arms"].values():
        del arm["runtime_s"]
    return results


def refused(
    programs, name: str, *arguments: Any, workdir: Path, says: Collection[str] = (), **options
) -> str:
    """The error line of a command that must be refused and write nothing into its workdir.

    It holds all of `says`.
    """
    before = snapshot(workdir) if workdir.is_dir() else workdir.exists()
    outcome = programs.run(name, *arguments, f"--workdir={workdir}", **options)
    assert outcome.code == 2, outcome
    line = one_error_line(outcome)
    assert "Traceback" not in outcome.stdout
    for phrase in says:
        assert phrase in line, line
    assert (snapshot(workdir) if workdir.is_dir() else workdir.exists()) == before
    return line
