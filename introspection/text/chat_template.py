"""Chat templates: a model's own Jinja template, rendered in a sandbox and cut around what is written into it.

A template is a stranger's program. It is rendered as transformers renders it (the same Jinja settings,
filters and variables), in Jinja's immutable sandbox, with a limit on what it may write; a date it asks for is
an option, so that no result depends on the day.

Where the user's text and the reply stand is known by construction: the template is rendered once with
placeholders that no text holds, and cut there (`chat_frame`).
"""

import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.sandbox

from introspection.errors import InputError
from introspection.text.literal_text import shortened

# Unicode noncharacters: reserved for a program's own use, never part of a text. Not white space, so that a
# template's `trim` leaves them alone.
_USER, _REPLY, _SYSTEM = "\ufdd4user\ufdd5", "\ufdd4reply\ufdd5", "\ufdd4system\ufdd5"
_OUTPUT_LIMIT = 1_000_000  # characters beyond the messages' own

# What a model without a template is asked in. It has learnt no end of turn, so its end of text ends a reply.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\\nAnswer:' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
)

Message = dict[str, str]


@dataclasses.dataclass(frozen=True)
class ChatOptions:
    """How a pretrained model is addressed.

    `system` is None for what the template does by itself, a text, or "" for none: an empty system message
    where the template would write a text of its own, no message elsewhere. A text that the template has no
    place for (Gemma 2, older Mistral) becomes the first lines of the user's turn, before a blank line.
    """

    system: str | None = None
    enable_thinking: bool = False  # Qwen3: False closes an empty thought before the reply
    date: str = "2024-07-26"  # what a template that asks for today's date gets
    template: str | None = None  # a Jinja template instead of the model's own

    def __post_init__(self) -> None:
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise InputError(f"chat.date: {self.date!r} is no date; write it as 2024-07-26") from error


class _RefusedError(jinja2.TemplateError):
    """A template called raise_exception: it does not take these messages."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` blocks, which mark the reply for trainers; here they only write what is in them."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares a set)

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace takes no attribute {name!r}")
        super().__setitem__(name, value)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """What a template reaches for and must not is an error, not an empty text.

    Products of texts, powers and each `range` are bounded, against accidents; a template that wants to hang
    still can.
    """

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        raise jinja2.exceptions.SecurityError(f"{attribute!r} of a {type(obj).__name__}")

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) if isinstance(side, str | list | tuple) else side for side in (left, right)]
        if all(isinstance(size, int) for size in sizes):
            product = sizes[0] * sizes[1] if operator == "*" else abs(sizes[0]).bit_length() * sizes[1]
            if product > _OUTPUT_LIMIT:
                raise OverflowError(f"{operator} gives more than {_OUTPUT_LIMIT} characters or digits")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: str) -> None:
    raise _RefusedError(message)


def _tojson(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@functools.lru_cache(maxsize=64)
def _compiled(text: str, date: str) -> jinja2.Template:
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    # The same prompt every time: nothing random.
    del environment.filters["random"], environment.globals["lipsum"]
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = datetime.date.fromisoformat(date).strftime
    environment.globals["dict"] = lambda *fields, **more: dict(*fields, **more)
    environment.globals["namespace"] = _Namespace
    return environment.from_string(text)


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template, the special tokens it may name, and the options it is rendered with."""

    text: str
    special_tokens: Mapping[str, str]  # bos_token, eos_token, … as far as the model has them
    options: ChatOptions
    source: str  # the file it is from, for messages

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The conversation as text.

        Raises:
          InputError: the template has a syntax error, raises, reaches for what it must not, or writes too
          much.
        """
        try:
            return self._render(messages, add_generation_prompt)
        except _RefusedError as error:
            raise self._error(f"refuses the conversation: {error}") from error

    def takes(self, messages: Sequence[Message]) -> bool:
        """False where the template raises an exception of its own about these messages.

        Raises InputError as `render` on any other fault.
        """
        try:
            self._render(messages, True)
        except _RefusedError:
            return False
        return True

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        limit = _OUTPUT_LIMIT + 4 * sum(len(message["content"]) for message in messages)
        try:
            pieces, written = [], 0
            for piece in _compiled(self.text, self.options.date).generate(
                **self.special_tokens,
                messages=[dict(message) for message in messages],
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=self.options.enable_thinking,
            ):
                pieces.append(piece)
                written += len(piece)
                if written > limit:
                    raise OverflowError(f"it writes more than {limit} characters")
        except _RefusedError:
            raise
        except jinja2.TemplateSyntaxError as error:
            raise self._error(f"has an error in line {error.lineno}: {error.message}") from error
        except jinja2.exceptions.SecurityError as error:
            raise self._error(f"reaches for what it must not: {error}") from error
        except Exception as error:  # whatever a stranger's program can raise
            raise self._error(f"fails: {error or type(error).__name__}") from error
        return "".join(pieces)

    def _error(self, fault: str) -> InputError:
        return InputError(f"{self.source}: the chat template {' '.join(fault.split())}")

    def cut(self, text: str, placeholder: str, what: str) -> tuple[str, str]:
        """What is written before and after a placeholder; raises InputError unless it is there once."""
        parts = text.split(placeholder)
        if len(parts) != 2:
            raise self._error(f"writes the {what} {len(parts) - 1} times; it must be there once")
        return parts[0], parts[1]


@dataclasses.dataclass(frozen=True)
class ChatFrame:
    """What a template writes around a user's text and around the reply.

    A prompt is `before + user + after`; the reply that follows is `lead + text + tail`, where `tail` begins
    with what ends the turn.
    """

    template: ChatTemplate
    opening: tuple[Message, ...]  # messages before the user's
    merged: str  # a system prompt that goes before the user's text, in the user's turn
    before: str
    after: str
    trims_left: bool
    trims_right: bool
    lead: str
    tail: str

    def prompt_parts(self, user_text: str) -> tuple[str, str, str]:
        """What the template writes before the user's text, the text as it writes it, and what comes after.

        Raises:
          InputError: the template writes this text in another way than others, so where it stands is not
          known.
        """
        written = user_text.lstrip() if self.trims_left else user_text
        written = written.rstrip() if self.trims_right else written
        rendered = self.template.render(_messages(self.opening, self.merged, user_text), True)
        if rendered != self.before + written + self.after:
            raise InputError(
                f"{self.template.source}: the chat template does not write the user's text"
                f" {shortened(user_text)!r} as it is"
            )
        return self.before, written, self.after


def chat_frame(template: ChatTemplate, earlier: Sequence[Message] = ()) -> ChatFrame:
    """Renders a template with placeholders and cuts it there.

    Args:
      earlier: turns before the user's last; a system text among them, which comes first, stands in place of
        `ChatOptions.system`.

    Raises:
      InputError: as `ChatTemplate.render`; or the template does not write the user's text or the reply once;
      or
        it keeps a system text of its own although `system` is "".
    """
    opening, merged = _opening_with(template, earlier)
    messages = _messages(opening, merged, _USER)
    prompt = template.render(messages, True)
    before, after = template.cut(prompt, _USER, "user's text")
    spaced = template.render(_messages(opening, merged, f" \n{_USER}\n "), True)
    left, right = template.cut(spaced, _USER, "user's text")
    whole = template.render([*messages, {"role": "assistant", "content": _REPLY}], False)
    before_reply, tail = template.cut(whole, _REPLY, "reply")
    return ChatFrame(
        template=template,
        opening=opening,
        merged=merged,
        before=before,
        after=after,
        trims_left=left == before,
        trims_right=right == after,
        # A prompt may end otherwise than a finished turn begins (a closed thought): then nothing leads.
        lead=before_reply.removeprefix(prompt) if before_reply.startswith(prompt) else "",
        tail=tail,
    )


def _messages(opening: Sequence[Message], merged: str, user_text: str) -> list[Message]:
    return [*opening, {"role": "user", "content": merged + user_text}]


def _opening_with(template: ChatTemplate, earlier: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """As `_opening`, with earlier turns; a system text without a place goes before the first user's text."""
    if earlier and earlier[0]["role"] == "system":
        options = dataclasses.replace(template.options, system=earlier[0]["content"])
        template, earlier = dataclasses.replace(template, options=options), earlier[1:]
    opening, merged = _opening(template)
    if not earlier:
        return opening, merged
    first, *rest = earlier
    return (*opening, {**first, "content": merged + first["content"]}, *rest), ""


def _opening(template: ChatTemplate) -> tuple[tuple[Message, ...], str]:
    """The messages before the user's and what is put before the user's text, by `ChatOptions.system`."""
    system = template.options.system
    if system is None:
        return (), ""
    alone = template.render(_messages((), "", _USER), True)
    probe = _messages([_system(_SYSTEM)], "", _USER)
    has_place = template.takes(probe) and template.render(probe, True).count(_SYSTEM) == 1
    if system:
        return ((_system(system),), "") if has_place else ((), f"{system}\n\n")
    if not has_place:
        return (), ""
    start, stop = template.render(probe, True).split(_SYSTEM)
    own_text = alone.startswith(start) and alone.endswith(stop) and len(alone) > len(start) + len(stop)
    if not own_text:
        return (), ""
    if template.render(_messages([_system("")], "", _USER), True) != start + stop:
        raise InputError(
            f"{template.source}: the chat template keeps a system text of its own; give chat.system"
        )
    return (_system(""),), ""


def _system(content: str) -> Message:
    return {"role": "system", "content": content}
