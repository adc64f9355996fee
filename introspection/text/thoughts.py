"""Thoughts: what a reasoning model writes between two markers before its reply.

Most markers are a bracketed word about thinking or reasoning, and are recognised by that form:
`<think>…</think>`, `[THINK]…[/THINK]`, `<seed:think>…</seed:think>`, `◁think▷…◁/think▷`,
`<|begin_of_thought|>…<|end_of_thought|>`, `<|START_THINKING|>…<|END_THINKING|>`. Some families have others
(`_FAMILIES`). The prompts of some models (DeepSeek-R1, QwQ, Qwen3-Thinking) already open the thought.
"""

import re
from typing import NamedTuple

_WORD = r"[\w:]*(?:think|thought|reason|scratchpad)[\w:]*"
# Openers of families, and what closes them, the form that a prompt needs first.
_FAMILIES = {
    r"<\|channel\|>analysis<\|message\|>": (  # gpt-oss
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        "<|channel|>final<|message|>",
    ),
    r"<\|channel>thought": ("<channel|>",),  # Gemma 4
    r"<unused94>thought": ("<unused95>",),  # MedGemma
    r"Here(?: is|'s) my thought process:": ("Here is my response:", "Here's my response:"),  # Granite 3
}
_OPENER = re.compile(
    rf"[<\[◁]\|?(?![\w:]*(?:end_|_end|no_?think|_off)){_WORD}\|?[>\]▷]|{'|'.join(_FAMILIES)}", re.IGNORECASE
)
_LONE_CLOSER = re.compile(rf"[<\[◁]\|?/{_WORD}\|?[>\]▷]", re.IGNORECASE)
_BEGINNINGS = {"begin": "end", "start": "end", "BEGIN": "END", "START": "END"}


class Thought(NamedTuple):
    """The markers of a thought that a prompt leaves open."""

    opener: str
    closer: str
    begun: str  # what the prompt writes after the opener


def open_thought(after: str, template: str) -> Thought | None:
    """The thought that a prompt's text after the user's opens and does not close.

    Args:
      template: where the closing marker is looked for, since there are two forms of some.
    """
    openers = list(_OPENER.finditer(after))
    if not openers:
        return None
    opener, begun = openers[-1][0], after[openers[-1].end() :]
    closers = _closers(opener)
    if any(closer in begun for closer in closers):
        return None
    return Thought(opener, next((form for form in closers if form in template), closers[0]), begun)


def closed_thought(text: str) -> tuple[Thought, str, str] | None:
    """The thought that a text begins with and closes, its text through the closing marker, and the rest."""
    opener = own_opener(text)
    for closer in _closers(opener) if opener else ():
        thought, found, rest = text.partition(closer)
        if found:
            return Thought(opener, closer, ""), thought + closer, rest
    return None


def own_opener(text: str) -> str:
    """The marker with which a reply opens a thought by itself, or ""."""
    found = _OPENER.match(text.lstrip())
    return found[0] if found else ""


def after_thought(text: str, opener: str) -> str | None:
    """A reply's text after its thought; None if the thought does not end."""
    ends = [text.find(form) + len(form) for form in _closers(opener) if form in text]
    return text[min(ends) :].lstrip() if ends else None


def after_lone_closer(text: str) -> str:
    """A reply's text after a thought that it closes and nothing opens, as some models write it; else all."""
    found = _LONE_CLOSER.search(text)
    if found is None or _OPENER.search(text[: found.start()]):
        return text
    return text[found.end() :].lstrip()


def _closers(opener: str) -> list[str]:
    """The markers that may close a thought, the likeliest first."""
    for family, closers in _FAMILIES.items():
        if re.fullmatch(family, opener, re.IGNORECASE):
            return list(closers)
    for beginning, end in _BEGINNINGS.items():
        if beginning in opener:
            return [opener.replace(beginning, end)]
    bracket = 2 if opener[1] == "|" else 1
    return list(dict.fromkeys(f"{opener[:cut]}/{opener[cut:]}" for cut in (bracket, 1)))
