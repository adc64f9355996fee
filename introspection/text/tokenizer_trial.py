"""Tokenizers of other people, tried in a child process (`runtime/child.py`) before they are used here.

The library may abort its process, and a text that it encodes may take all memory: a normalizer's replacement
can be as long as its file, and each of many can multiply what the one before it wrote.
"""

import functools
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from introspection.errors import InputError, shortened
from introspection.runtime.child import Child, ChildError, Limits
from introspection.runtime.files import check_file

LIMITS = Limits(30.0, 2 << 30)  # 90,000 pieces took 1.8 s, of a GGUF file 45,000 1.5 s; Gemma has 262,000
# What a tokenizer is tried on: every kind of text that prompts have, in the lengths that they have.
_TRIED = (
    "What is the capital of Norway? I think it is Oslo, but I am not sure.\n" * 30,
    "".join(map(chr, range(32, 127))) * 8,
    " ".join(map(chr, range(33, 127))),
    *(unit * 400 for unit in ("a", "Z", "ab ", "0", "1,", " ", "\n", "\t", ".", "é", "中", "😀")),
    "naïve Ωμέγα жизнь 中文，日本語のかな 한국어 ภาษาไทย العربية ﷺ हिन्दी",
    "👩\u200d👩\u200d👧 e\u0301 \u00a0 \u200b \u2028 \ufeff",
)
_MOST_TOKENS_A_BYTE = 8  # a byte-level vocabulary writes one or fewer, and NFKC hardly more
_MOST_GROWTH = 1000  # of a text by replacements: published ones write ▁ or a quotation mark


def check_tokenizer_file(path: Path) -> None:
    """Reads a stranger's `tokenizer.json` and encodes sample texts, in a process of its own.

    Raises:
      InputError: there is no such file, or the library fails or takes too much time or memory.
    """
    check_file(path)
    stat = path.stat()
    if fault := _fault_of(str(path.resolve()), (stat.st_ino, stat.st_size, stat.st_mtime_ns)):
        raise InputError(f"{path}: not a readable tokenizer ({shortened(' '.join(fault.split()))})")


@functools.lru_cache(maxsize=64)
def _fault_of(path: str, version: tuple[int, ...]) -> str:
    del version  # a file is tried once, and again when it changes
    return _asked(path=path).get("fault", "")


def tried_gguf(fields: Mapping[str, Any], source: str) -> str:
    """A GGUF file's tokenizer as `tokenizer.json`, built and tried in a process of its own.

    Raises:
      InputError: as `build_gguf_tokenizer`; or the library fails, or takes too much time or memory.
    """
    answer = _asked(gguf=dict(fields), source=source)
    if "fault" in answer:
        raise InputError(f"{source}: not a readable tokenizer ({shortened(answer['fault'])})")
    if "refused" in answer:
        raise InputError(answer["refused"])
    return answer["tokenizer"]


def _asked(**request: Any) -> dict[str, str]:
    try:
        return json.loads(next(Child(__name__, LIMITS).ask(**request)))
    except ChildError as error:
        return {"fault": f"it {error}"}


def answers(path: str = "", gguf: dict[str, Any] | None = None, source: str = "") -> Iterator[bytes]:
    """What the child answers: of a file, `{}` or its fault; of GGUF fields, the tokenizer that they make."""
    import tokenizers  # only here, since the child is asked before the library sees the file

    answer: dict[str, str] = {}
    try:
        if gguf is None:
            _try(tokenizers.Tokenizer.from_file(path))
        else:
            answer = _built(gguf, source)
    except MemoryError:
        answer = {"fault": "it needs more memory than a tokenizer may use"}
    except BaseException as error:  # the library raises bare Exception, and panics, which are not Exceptions
        answer = {"fault": str(error) or type(error).__name__}
    yield json.dumps(answer).encode()


def _built(fields: dict[str, Any], source: str) -> dict[str, str]:
    from introspection.text.gguf_tokenizer import build_gguf_tokenizer

    try:
        tokenizer = build_gguf_tokenizer(fields, source)
    except InputError as error:
        return {"refused": str(error)}
    _try(tokenizer)
    return {"tokenizer": tokenizer.to_str()}


def _growth(component: Mapping[str, Any]) -> float:
    """How many times as long a component may make a text; a regular expression may match between letters."""
    if component["type"] != "Replace":
        return 1
    pattern, written = component["pattern"], len(component["content"])
    return max(1, written / max(1, len(pattern["String"]))) if "String" in pattern else 1 + written


def _try(tokenizer: Any) -> None:
    """Encodes and decodes texts; raises any kind of exception, or RuntimeError if they grow too much."""
    import tokenizers

    from introspection.text.literal_text import components, literal_tokenizer

    definition = json.loads(tokenizer.to_str())
    growth = max(math.prod(map(_growth, components(definition, kind))) for kind in ("normalizer", "decoder"))
    if growth > _MOST_GROWTH:
        raise RuntimeError(f"its replacements may make a text {growth:.3g} times as long")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    uses = [tokenizer]
    if isinstance(tokenizer.model, tokenizers.models.BPE):
        literal = literal_tokenizer(tokenizer, "", "", "its control tokens")
        uses = [literal.whole, literal.continuing]
    for text, use in itertools.product(_TRIED, uses):
        ids = use.encode(text).ids
        if len(ids) > _MOST_TOKENS_A_BYTE * len(text.encode()):
            raise RuntimeError(f"it writes {len(text)} characters as {len(ids)} tokens")
        use.decode(ids, skip_special_tokens=False)
