"""How a command starts and ends: flags, one-line errors, exit codes 0, 1 and 2."""

import contextlib
import ctypes
import errno
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict, config_flags
from rich.console import Console

from introspection.errors import InputError, RunError
from introspection.runtime import processes, stopping
from introspection.runtime.config import cache_dir, comma_values
from introspection.runtime.files import read_whole
from introspection.runtime.interrupts import leave
from introspection.runtime.joining import end, place_of, start, wait_for_news
from introspection.runtime.json_files import parsed
from introspection.runtime.known_as import by_meaning, meant, suggestion, with_arm
from introspection.runtime.places import check_schemes, local_path
from introspection.runtime.terminal import Terminal, one_line, visible

DONE, FAILED, BAD_INPUT = 0, 1, 2
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of an OSError
_EXPLAINED = (*FULL_DISK, errno.EACCES, errno.EPERM, errno.EROFS)  # need no traceback
RESUMES = "what is finished is kept, and the same command resumes from the last checkpoint"
# Flags that name places: in buckets, too, or local ones alone.
PLACES, LOCAL_PLACES = (
    ("workdir", "beside", "model", "models", "judge-model", "controls"),
    ("data", "to", "out", "table"),
)
STARTS_AGAIN = "nothing of it is kept, and the same command starts again"


def run_program(
    main: Callable[[flags.FlagValues, Console], None], flag_values: flags.FlagValues, stopped: str
) -> None:
    """Parses the command line, calls `main`, prints errors as one line on stderr and exits.

    Exit codes: 0 done; 1 failed while running; 2 bad input, nothing written; 130 interrupted by Ctrl-C. A
    command that resumes also exits with 0 once SIGTERM has made it save what it has.

    Args:
      stopped: what is kept of a command that was stopped, and how to go on.
    """
    if {"--help", "-h", "--helpfull"} & set(sys.argv[1:]):
        sys.stdout.write(visible(help_text(sys.modules["__main__"].__doc__ or "", flag_values, sys.argv)))
        sys.exit(DONE)
    code, message, at_once = _run_main(main, flag_values, stopped)
    end(code, message, alone=not stopping.is_agreed())
    if at_once or (code and processes.count() > 1):
        leave(code)
    sys.exit(code) if code else None


def _run_main(
    main: Callable[[flags.FlagValues, Console], None], flag_values: flags.FlagValues, stopped: str
) -> tuple[int, str, bool]:
    """The exit code, the error's line, and whether programs may still run on a device."""
    try:
        stopping.listen(False)
        parse_flags(flag_values, sys.argv)
        check_places(flag_values)
        keep_compiled_programs()
        keep_freed_memory()
        if "processes" in flag_values:
            place = place_of(flag_values.coordinator, flag_values.processes, flag_values.process)
            start(place, flag_values["start-timeout"].value or 300)
        stopping.listen(stopped == RESUMES)
        main(flag_values, Terminal(quiet=not processes.is_first()))
        return DONE, "", False
    except (InputError, flags.Error) as error:
        return BAD_INPUT, _one_line(error), False
    except KeyboardInterrupt as error:
        code = stopping.exit_code(resumes=stopped == RESUMES)
        said = "; ".join(filter(None, (str(error), stopped)))
        if processes.is_first() or not stopping.is_agreed():
            _one_line(said, "error: interrupted" if code else "stopped")
        return code, f"interrupted; {said}", True
    except RunError as error:
        wait_for_news(error)
        return FAILED, _one_line(error), False
    except OSError as error:
        if error.errno not in _EXPLAINED:
            sys.stderr.write(visible(traceback.format_exc()))
        return FAILED, _one_line(f"{error}: {stopped}"), False
    except Exception as error:
        if processes.count() == 1:
            raise
        wait_for_news(error)
        sys.stderr.write(visible(traceback.format_exc()))
        return FAILED, _one_line(f"{type(error).__name__}: {error}"), True


def define_place_flags() -> None:
    """`--mesh`, and which of how many processes this is."""
    flags.DEFINE_string(
        "mesh", "", "devices along each axis, such as data=2,fsdp=4; one may be -1 and takes the rest"
    )
    flags.DEFINE_string(
        "coordinator", None, "HOST:PORT of process 0, where one command runs as several processes"
    )
    flags.DEFINE_integer("processes", None, "of how many; found by itself on Cloud TPU, GKE and SLURM")
    flags.DEFINE_integer("process", None, "which of them this is, counted from 0")
    flags.DEFINE_integer("start-timeout", 300, "seconds to wait until all processes have joined")


def define_config_flag() -> None:
    """`--config=FILE[:ARGUMENT]` and `--config.<field>=<value>`."""
    config_flags.DEFINE_config_file(
        "config",
        help_string="Config file, FILE.py or FILE.py:ARGUMENT; any field can be given as "
        "--config.<field>=<value>.",
        lock_config=True,
    )


def parse_flags(flag_values: flags.FlagValues, arguments: list[str]) -> None:
    """Parses like absl, but raises every mistake as an InputError of one line."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"{argument!r} is not UTF-8 and can't be written; rename what it names"
            ) from error
    config, values = config_argument(arguments), None
    if config is not None:
        check_config_file(config)
        values = get_config_of(config)  # before absl, which would hide an error inside the file
        for argument in arguments[1:]:
            if argument.startswith("--config."):
                check_field(argument.removeprefix("--config.").split("=", 1)[0], values, "--config.")
        arguments = with_tuples(arguments, values)
    try:
        rest = flag_values(arguments)
    except flags.UnrecognizedFlagError as error:
        fields = field_names(values) if values is not None else ()
        hint = by_meaning(error.flagname, fields=fields, prefix="--config.") if fields else ""
        if not all(name in flag_values for name in re.findall(r"--(\w+)", hint)):
            hint = ""  # it names a flag of other commands
        raise InputError("; ".join(filter(None, (_sentence(error), hint)))) from error
    except AttributeError as error:  # an unknown config field
        raise InputError(f"--config: {_sentence(error)}") from error
    except (TypeError, ValueError) as error:
        raise InputError(_sentence(error)) from error
    if len(rest) > 1:
        raise InputError(f"unexpected argument {rest[1]!r}; flags are given as --name=value")


def check_places(flag_values: flags.FlagValues) -> None:
    """Raises InputError if a flag names a place that can't be reached from here, such as `foo://x`."""
    for flag in (*PLACES, *LOCAL_PLACES):
        value = flag_values[flag].value if flag in flag_values else None
        for text in [value] if isinstance(value, str) else value or ():
            check_schemes(f"--{flag}", text)
            if flag in LOCAL_PLACES:
                local_path(f"--{flag}", text)


def with_tuples(arguments: list[str], config: ConfigDict) -> list[str]:
    """The arguments with `--config.<field>=a,b` written as a tuple where the field is one."""

    def written(argument: str) -> str:
        flag, _, text = argument.partition("=")
        value: Any = config
        for part in flag.removeprefix("--config.").split("."):
            value = value.get(part) if isinstance(value, ConfigDict) else None
        is_tuple = isinstance(value, tuple | list) and not text.lstrip().startswith(("(", "["))
        return f"{flag}={comma_values(text)!r}" if is_tuple else argument

    return [written(one) if one.startswith("--config.") and "=" in one else one for one in arguments]


def config_argument(arguments: list[str]) -> str | None:
    """The value of the last `--config=FILE` or `--config FILE`."""
    given = None
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if argument == "--config":
            given = following
        elif argument.startswith("--config="):
            given = argument.split("=", 1)[1]
    return given


def check_config_file(config: str) -> None:
    """Raises InputError unless `FILE[:ARGUMENT]` names a Python file with `get_config`."""
    path = Path(config.split(":", 1)[0])
    if not path.exists():
        near = sorted(str(p) for p in Path("configs").glob("*.py")) if Path("configs").is_dir() else []
        raise InputError(
            f"--config: {path} does not exist" + (f"; choose from {', '.join(near)}" if near else "")
        )
    data = read_whole(path)
    source = parsed(f"--config: {path}", data.decode, "give a Python file")
    if not re.search(r"^def get_config\(", source, re.MULTILINE):
        raise InputError(f"--config: {path} has no function get_config; see configs/quickstart.py")


def get_config_of(config: str) -> ConfigDict:
    """The config of `FILE[:ARGUMENT]`, without overrides."""
    path, _, argument = config.partition(":")
    module = load_config_file(config)
    try:
        return module.get_config(argument) if argument else module.get_config()
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def load_config_file(config: str) -> ModuleType:
    """The module of `FILE[:ARGUMENT]`, which may define more than `get_config` (`sweep`)."""
    path = config.partition(":")[0]
    spec: Any = importlib.util.spec_from_file_location("experiment_config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except InputError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    return module


def _unreadable(path: str, error: Exception) -> InputError:
    return InputError(f"--config: {path} can't be read: {type(error).__name__}: {error}")


def check_field(field: str, config: ConfigDict, prefix: str = "") -> None:
    """Rejects unknown fields, and sections: ml_collections would silently replace a section whole.

    Raises:
      InputError: names the field, after `prefix`, and a close match if there is one.
    """
    value: Any = config
    parts = field.split(".")
    for place, part in enumerate(parts):
        if not isinstance(value, ConfigDict):
            return  # perhaps an index; the parser checks it
        if re.sub(r"\[.*", "", part) not in value:
            section = with_arm(".".join(parts[:place]))
            hint = suggestion(part, list(value), section, parts[place + 1 :], field_names(config))
            raise InputError(f"{prefix}{field}: the config has no field {part!r} there; {hint}")
        value = value.get(part)
    if isinstance(value, ConfigDict):
        raise InputError(
            f"{prefix}{field} is a section; override its fields: "
            + ", ".join(f"{prefix}{field}.{name}" for name in value)
            + "".join(f"; or you may mean {prefix}{other}" for other in meant(field))
        )


def field_names(config: ConfigDict) -> list[str]:
    """Every field, dotted, with ARM for an arm's name; each once."""
    return list(dict.fromkeys(with_arm(path) for path, _ in _fields(config)))


def help_text(doc: str, flag_values: flags.FlagValues, arguments: list[str]) -> str:
    """The command's docstring, its flags, and the fields of the given config."""
    defining = ("__main__", define_place_flags.__module__)
    found = (flag for name in defining for flag in flag_values.get_flags_for_module(name))
    own = [flag for flag in found if flag.name != "config"]
    lines = [doc.strip(), "", "Flags:"]
    if "config" in flag_values:
        lines.append(
            "  --config=FILE.py[:ARGUMENT]  the experiment; --config.<field>=<value> overrides a field"
        )
    for flag in own:
        default = f" (default: {flag.default!r})" if flag.default else ""
        said = str(flag.help).partition("\n")[0].removesuffix(";")  # absl adds how lists are given
        lines.append(f"  --{flag.name}  {said}{default}")
    config = config_argument(arguments)
    if config is not None:
        check_config_file(config)
        listed = [f"  --config.{path}={value!r}" for path, value in _fields(get_config_of(config))]
        lines += ["", f"Fields of {config}:", *listed]
    elif "config" in flag_values:
        lines += ["", "Add --config=FILE to list the config's fields too."]
    return "\n".join([*lines, "", "Exit codes: 0 done; 1 failed while running; 2 bad input; 130 Ctrl-C.", ""])


def _fields(section: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its value, as a dotted path."""
    for name, value in section.items():
        if isinstance(value, ConfigDict):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def keep_freed_memory() -> None:
    """Makes glibc (Linux) keep memory that a compiled program frees; the process stays at its peak memory.

    Otherwise a step's temporary buffers are mapped and zeroed again at every call, page by page: on two
    cores this took half the time of a single step and a tenth of ten steps in one call (the benchmark
    `stacked_seeds` counts the page faults). XLA's threads share one arena, since glibc maps whatever does
    not fit into a thread's own arena (64 MB), regardless of its limits.
    """
    trim_threshold, mmap_max, arena_max = -1, -4, -8  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, -1)  # never
        mallopt(mmap_max, 0)
        mallopt(arena_max, 1)


def keep_compiled_programs() -> None:
    """Caches compiled programs on disk, so that a second start is fast."""
    jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())


def _one_line(error: object, kind: str = "error") -> str:
    """Prints an error, and returns its line."""
    line = one_line(error)
    print(f"{kind}: {line}", file=sys.stderr)
    return line
