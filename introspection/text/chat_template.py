"""Chat templates: a model's own Jinja template, rendered in a sandbox and cut at the inserted texts.

A template is untrusted code. It is rendered as in transformers (same Jinja settings, filters and variables),
in Jinja's immutable sandbox, with an output limit; the date that it may ask for is an option, so that results
do not depend on the day.

The template is rendered once with placeholders that no text contains and cut there (`chat_frame`), which
gives the positions of the user's text and the reply by construction.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from introspection.errors import InputError
from introspection.text.literal_text import shortened

# Unicode noncharacters: reserved for internal use, never in a text. Not white space, so `trim` keeps them.
_USER, _REPLY, _SYSTEM = "\ufdd4user\ufdd5", "\ufdd4reply\ufdd5", "\ufdd4system\ufdd5"
_OUTPUT_LIMIT = 1_000_000  # characters beyond the messages' own

# For models without a template. They have learnt no end of turn, so their end of text ends a reply.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'Question: ' + message['content'] + '\\nAnswer:' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token + '\\n\\n' }}{% endif %}"
    "{% endfor %}"
)

PLAIN_FORMAT = '"Question: …", a line break and "Answer:"'  # a user's turn in PLAIN_TEMPLATE

Message = dict[str, str]


@dataclasses.dataclass(frozen=True)
class ChatOptions:
    """How a pretrained model is prompted.

    `system` is None for the template's default, a text, or "" for none: an empty system message if the
    template would otherwise write its own, else no message. If the template has no place for a system text
    (Gemma 2, older Mistral), the text starts the user's turn, followed by a blank line.
    """

    system: str | None = None
    enable_thinking: bool = False  # Qwen3: False closes an empty thought before the reply
    date: str = "2024-07-26"  # for templates that ask for today's date
    template: str | None = None  # overrides the model's own Jinja template

    def __post_init__(self) -> None:
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise InputError(f"chat.date: {self.date!r} is not a date; write it like 2024-07-26") from error


class _RefusedError(jinja2.TemplateError):
    """A template called raise_exception: it rejects these messages."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` blocks, which mark replies for trainers; here only their content is rendered."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares a set)

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace can't have the attribute {name!r}")
        super().__setitem__(name, value)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Makes forbidden access an error instead of an empty text.

    Bounds products of texts, powers and each `range` against accidents; a malicious template can still hang.
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
    # Nothing random, so that the prompt is always the same.
    del environment.filters["random"], environment.globals["lipsum"]
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = datetime.date.fromisoformat(date).strftime
    environment.globals["dict"] = lambda *fields, **more: dict(*fields, **more)
    environment.globals["namespace"] = _Namespace
    return environment.from_string(text)


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template, the special tokens that it may use, and its options."""

    text: str
    special_tokens: Mapping[str, str]  # bos_token, eos_token, … if the model has them
    options: ChatOptions
    source: str  # its file, for messages

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The conversation as text.

        Raises:
          InputError: the template has a syntax error, raises, accesses something forbidden, or writes too
            much.
        """
        try:
            return self._render(messages, add_generation_prompt)
        except _RefusedError as error:
            raise self._error(f"rejects the conversation: {error}") from error

    def takes(self, messages: Sequence[Message]) -> bool:
        """Whether the template accepts these messages, rather than raise an exception of its own.

        Raises InputError as `render` on any other error.
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
            raise self._error(f"accesses something forbidden: {error}") from error
        except Exception as error:  # untrusted code can raise anything
            raise self._error(f"fails: {error or type(error).__name__}") from error
        return "".join(pieces)

    def written(self) -> str:
        """All text that the template may write: its literals, and what it joins for messages of any role.

        transformers finds the tokens to protect in the literals; Phi-4-mini's template builds them
        (`'<|' + message['role'] + '|>'`). Raises InputError if the template has a syntax error.
        """
        try:
            tree = _compiled(self.text, self.options.date).environment.parse(self.text)
        except jinja2.TemplateSyntaxError as error:
            raise self._error(f"has an error in line {error.lineno}: {error.message}") from error
        found = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
        found += [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
        user = {"role": "user", "content": _USER}
        for role in ("system", "user", "assistant", "tool"):
            message = {"role": role, "content": _USER}
            for messages in ([message], [message, user], [user, message]):
                with contextlib.suppress(InputError):  # it rejects such a conversation
                    found.append(self.render(messages, True))
        return "\0".join(found)

    def _error(self, fault: str) -> InputError:
        return InputError(f"{self.source}: the chat template {' '.join(fault.split())}")

    def cut(self, text: str, placeholder: str, what: str) -> tuple[str, str]:
        """The text before and after a placeholder; raises InputError unless it occurs once."""
        parts = text.split(placeholder)
        if len(parts) != 2:
            raise self._error(f"writes the {what} {len(parts) - 1} times; it must do so once")
        return parts[0], parts[1]


@dataclasses.dataclass(frozen=True)
class ChatFrame:
    """The text that a template puts around the user's text and the reply.

    A prompt is `before + user + after`; the reply that follows is `lead + text + tail`, where `tail` starts
    with the end of the turn.
    """

    template: ChatTemplate
    opening: tuple[Message, ...]  # messages before the user's
    merged: str  # a system prompt at the start of the user's turn
    before: str
    after: str
    trims_left: bool
    trims_right: bool
    lead: str
    tail: str

    def prompt_parts(self, user_text: str) -> tuple[str, str, str]:
        """The template's text before the user's, the user's text as written, and the template's text after.

        Raises:
          InputError: the template changes this text, so its position is unknown.
        """
        written = user_text.lstrip() if self.trims_left else user_text
        written = written.rstrip() if self.trims_right else written
        rendered = self.template.render(_messages(self.opening, self.merged, user_text), True)
        if rendered != self.before + written + self.after:
            raise InputError(
                f"{self.template.source}: the chat template does not write the user's text"
                f" {shortened(user_text)!r} unchanged"
            )
        return self.before, written, self.after


def chat_frame(template: ChatTemplate, earlier: Sequence[Message] = ()) -> ChatFrame:
    """Renders a template with placeholders and cuts it there.

    Args:
      earlier: turns before the user's last; a leading system text replaces `ChatOptions.system`.

    Raises:
      InputError: as `ChatTemplate.render`; the template does not write the user's text or the reply exactly
        once; or it keeps its own system text although `system` is "".
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
        # A prompt may end differently from the start of a finished turn (a closed thought): then no lead.
        lead=before_reply.removeprefix(prompt) if before_reply.startswith(prompt) else "",
        tail=tail,
    )


def _messages(opening: Sequence[Message], merged: str, user_text: str) -> list[Message]:
    return [*opening, {"role": "user", "content": merged + user_text}]


def _opening_with(template: ChatTemplate, earlier: Sequence[Message]) -> tuple[tuple[Message, ...], str]:
    """`_opening` with earlier turns; a system text without a place goes before the first user's text."""
    if earlier and earlier[0]["role"] == "system":
        options = dataclasses.replace(template.options, system=earlier[0]["content"])
        template, earlier = dataclasses.replace(template, options=options), earlier[1:]
    opening, merged = _opening(template)
    if not earlier:
        return opening, merged
    first, *rest = earlier
    return (*opening, {**first, "content": merged + first["content"]}, *rest), ""


def _opening(template: ChatTemplate) -> tuple[tuple[Message, ...], str]:
    """The messages before the user's, and the text put before the user's, by `ChatOptions.system`."""
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
            f"{template.source}: the chat template keeps a system text of its own; set chat.system"
        )
    return (_system(""),), ""


def _system(content: str) -> Message:
    return {"role": "system", "content": content}
