"""Where a name leads: to a local path, or to a bucket (`gs://…`, `s3://…`), whose driver must be installed.

`Path("s3://bucket/run")` is the local folder `s3:/bucket/run`, so every text that a user gives as a path is
checked here before it becomes one.
"""

import importlib.util
import re
from pathlib import Path

from introspection.errors import InputError, brief

DRIVERS = {"gs": "gcsfs", "s3": "s3fs"}  # the fsspec package of a scheme
REQUIREMENTS = "requirements-storage.txt"
_SCHEME = "[A-Za-z][A-Za-z0-9.-]*"
_START = re.compile(f"({_SCHEME})://")
_SOMEWHERE = re.compile(f"(?:^|[=+])({_SCHEME})://")  # also RECIPE=MODEL and BASE+ADAPTERS
# In a model's name, what comes before :ARM, @STEP and +ADAPTERS.
URL = re.compile(f"(?:{'|'.join(DRIVERS)})://[^:@+]+")


def is_url(place: str | Path) -> bool:
    """Whether a place has a scheme, known or not."""
    return isinstance(place, str) and _START.match(place) is not None


def check_schemes(flag: str, text: str) -> None:
    """Checks every place that a flag's value names.

    Raises:
      InputError: a scheme is unknown, or its driver is not installed; names the flag and says what to do.
    """
    for found in _SOMEWHERE.finditer(text):
        scheme = found[1]
        if scheme not in DRIVERS:
            known = " or ".join(f"{name}://BUCKET/FOLDER" for name in DRIVERS)
            raise InputError(
                f"{flag}: {brief(text)}: nothing reads {scheme}://; give {known}, or a local path"
            )
        if importlib.util.find_spec(DRIVERS[scheme]) is None:
            raise InputError(
                f"{flag}: {scheme}:// needs the package {DRIVERS[scheme]}, which is not installed: "
                f"pip install -r {REQUIREMENTS}"
            )


def url_parts(flag: str, url: str) -> tuple[str, str]:
    """The scheme and `BUCKET/FOLDER` of a checked URL.

    Raises:
      InputError: it names no folder in a bucket, or has a part that is empty, `.` or `..`.
    """
    scheme, _, rest = url.partition("://")
    rest = rest.rstrip("/")
    if "/" not in rest or {"", ".", ".."} & set(rest.split("/")):
        raise InputError(f"{flag}: {brief(url)} is no folder in a bucket; give {scheme}://BUCKET/FOLDER")
    return scheme, rest


def local_path(what: str, text: str) -> Path:
    """A path that must be local, `~` expanded.

    Raises:
      InputError: it is a URL; names the flag or field.
    """
    if is_url(text):
        raise InputError(f"{what}: {brief(text)} is no local path: copy it here, and give the copy's path")
    return Path(text).expanduser()
