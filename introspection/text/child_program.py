"""The child process in which other people's templates and tokenizer files are tried (see `child.py`).

It reads one request after another from the connection whose file descriptor is its argument, and ends with
its parent. A request that takes too long ends it by SIGPROF, too much memory by an error or an abort.
"""

import contextlib
import itertools
import json
import resource
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

from introspection.text.template_sandbox import render_untrusted, template_literals

# What a tokenizer is tried on: every kind of text that prompts have, in the lengths that they have.
_TRIED = (
    "What is the capital of Norway? I think it is Oslo, but I am not sure.\n" * 30,
    "".join(map(chr, range(32, 127))) * 8,
    " ".join(map(chr, range(33, 127))),
    *(unit * 400 for unit in ("a", "Z", "ab ", "0", "1,", " ", "\n", "\t", ".", "é", "中", "😀")),
    "naïve Ωμέγα жизнь 中文，日本語のかな 한국어 ภาษาไทย العربية ﷺ हिन्दी",
    "👩\u200d👩\u200d👧 e\u0301 \u00a0 \u200b \u2028 \ufeff",
)
_LIBRARIES = 1 << 30  # bytes of address space
_SECONDS_BACK = 0.02
_MOST_TOKENS_A_BYTE = 8  # a byte-level vocabulary writes one or fewer, and NFKC hardly more


def main(descriptor: int, seconds: float, memory: int) -> None:
    """Answers requests until the parent is gone.

    Args:
      descriptor: of the connection's end.
      seconds: of processor time for one request; the process ends when they are over. What a request uses
        is missing for the next ones, and each gets 20 ms back, more than fifty times what a template needs.
      memory: bytes of data, for the process. Some systems only limit the address space, of which libraries
        and locales take a part; macOS limits neither.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    limits = {resource.RLIMIT_DATA: memory, resource.RLIMIT_AS: memory + _LIBRARIES, resource.RLIMIT_CORE: 0}
    for kind, limit in limits.items():
        with contextlib.suppress(ValueError, OSError):  # a lower one holds already
            resource.setrlimit(kind, (limit, limit))
    connection, left = Connection(descriptor), seconds
    while True:
        try:
            request = json.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        signal.setitimer(signal.ITIMER_PROF, left)
        answer = _answer(**request)
        left, _ = signal.setitimer(signal.ITIMER_PROF, 0)
        left = min(left + _SECONDS_BACK, seconds)
        connection.send_bytes(json.dumps(answer).encode())


def _answer(
    render: dict[str, Any] | None = None, literals: dict[str, str] | None = None, tokenizer: str = ""
) -> dict[str, str]:
    """What is asked for: a rendered template, the literals of one, or a trial of a tokenizer's file."""
    if render is not None:
        return render_untrusted(**render)
    return template_literals(**literals) if literals is not None else _tried(tokenizer)


def _tried(path: str) -> dict[str, str]:
    """`{"fault": …}` unless the library reads a tokenizer's file, and encodes and decodes texts with it."""
    import tokenizers  # only here: templates don't need it

    from introspection.text.literal_text import literal_tokenizer

    try:
        tokenizer = tokenizers.Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        uses = [tokenizer]
        if isinstance(tokenizer.model, tokenizers.models.BPE):
            literal = literal_tokenizer(tokenizer, "", "", "its control tokens")
            uses = [literal.whole, literal.continuing]
        for text, use in itertools.product(_TRIED, uses):
            ids = use.encode(text).ids
            if len(ids) > _MOST_TOKENS_A_BYTE * len(text.encode()):
                return {"fault": f"it writes {len(text)} characters as {len(ids)} tokens"}
            use.decode(ids, skip_special_tokens=False)
    except MemoryError:
        return {"fault": "it needs more memory than a tokenizer may use"}
    except BaseException as error:  # the library raises bare Exception, and panics, which are not Exceptions
        return {"fault": str(error)[:300] or type(error).__name__}
    return {}


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
