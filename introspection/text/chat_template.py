"""Chat templates: a model's own Jinja template, rendered in a sandbox and cut at the inserted texts.

A template is untrusted code. It is rendered as in transformers (same Jinja settings, filters and variables),
in Jinja's immutable sandbox (`template_sandbox.py`), in a child process with limits; the date
that it may ask for is an option, so that results do not depend on the day.

The template is rendered once with placeholders that no text contains and cut there (`chat_frame`), which
gives the positions of the user's text and the reply by construction.
"""

import contextlib
import dataclasses
import datetime
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from introspection.errors import InputError, brief
from introspection.runtime.child import ChildError, Limits, lent_child
from introspection.text import template_sandbox
from introspection.text.thoughts import Thought, closed_thought, open_thought

# Unicode noncharacters: reserved for internal use, never in a text. Not white space, so `trim` keeps them.
_USER, _REPLY, _SYSTEM, _THOUGHT = (f"\ufdd4{name}\ufdd5" for name in ("user", "reply", "system", "thought"))

LIMITS = Limits(1.0, 256 << 20)
_ASKED = 256  # conversations in one request
MOST_CHARACTERS = 1_000_000  # of a template; the longest published ones have 50,000

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

    system: str | None = None  # the system message; null is the template's own, "" is none
    enable_thinking: bool = False  # Qwen3: False closes an empty thought before the reply
    date: str = "2024-07-26"  # for templates that ask for today's date
    template: str | None = None  # overrides the model's own Jinja template

    def __post_init__(self) -> None:
        try:
            datetime.date.fromisoformat(self.date)
        except ValueError as error:
            raise InputError(f"chat.date: {self.date!r} is not a date; write it like 2024-07-26") from error


@dataclasses.dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template, the special tokens that it may use, and its options."""

    text: str
    special_tokens: Mapping[str, str]  # bos_token, eos_token, … if the model has them
    options: ChatOptions
    source: str  # its file, for messages

    def __post_init__(self) -> None:
        if len(self.text) > MOST_CHARACTERS:
            raise self._error(f"has {len(self.text):,} characters, more than {MOST_CHARACTERS:,}")

    def render(self, messages: Sequence[Message], add_generation_prompt: bool) -> str:
        """The conversation as text.

        Raises:
          InputError: the template has a syntax error, raises, accesses something forbidden, writes too much,
            or takes too much time or memory.
        """
        return self._text(self._render(messages, add_generation_prompt))

    def render_prompts(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """`render` of each with a generation prompt, asked for at once and not kept."""
        answers = []
        for start in range(0, len(conversations), _ASKED):
            request = _request(self.text, self.special_tokens, self.options, True)
            some = conversations[start : start + _ASKED]
            try:
                answers += _asked(**request, conversations=some)
            except ChildError as error:
                raise self._error(str(error)) from error
        return [self._text(self._without_fault(answer)) for answer in answers]

    def takes(self, messages: Sequence[Message]) -> bool:
        """Whether the template accepts these messages, rather than raise an exception of its own.

        Raises InputError as `render` on any other error.
        """
        return "refused" not in self._render(messages, True)

    def render_if_accepted(self, messages: Sequence[Message]) -> str:
        """The finished conversation as text; "" if the template can't render it."""
        try:
            return self._render(messages, False).get("text", "")
        except InputError:
            return ""

    def _render(self, messages: Sequence[Message], add_generation_prompt: bool) -> Mapping[str, str]:
        said = tuple(tuple(message.items()) for message in messages)
        special = tuple(self.special_tokens.items())
        return self._checked(lambda: _rendered(self.text, special, self.options, said, add_generation_prompt))

    def _checked(self, ask: Callable[[], Mapping[str, str]]) -> Mapping[str, str]:
        try:
            return self._without_fault(ask())
        except ChildError as error:
            raise self._error(str(error)) from error

    def _without_fault(self, answer: Mapping[str, str]) -> Mapping[str, str]:
        if "fault" in answer:
            raise self._error(answer["fault"])
        return answer

    def _text(self, answer: Mapping[str, str]) -> str:
        if "refused" in answer:
            raise self._error(f"rejects the conversation: {answer['refused']}")
        return answer["text"]

    @functools.cached_property
    def written(self) -> str:
        """All text that the template may write: its literals, and what it joins for messages of any role.

        transformers finds the tokens to protect in the literals; Phi-4-mini's template builds them
        (`'<|' + message['role'] + '|>'`). Raises InputError as `render`.
        """
        found = [self._checked(lambda: _asked(template=self.text, date=self.options.date)[0])["text"]]
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


@functools.lru_cache(maxsize=4096)  # a prompt is encoded more than once, and asking the child costs as much
def _rendered(
    text: str,
    special_tokens: tuple[tuple[str, str], ...],
    options: ChatOptions,
    messages: tuple[tuple[tuple[str, str], ...], ...],
    add_generation_prompt: bool,
) -> Mapping[str, str]:
    request = _request(text, dict(special_tokens), options, add_generation_prompt)
    return _asked(**request, conversations=[[dict(message) for message in messages]])[0]


def _request(
    text: str, special_tokens: Mapping[str, str], options: ChatOptions, add_generation_prompt: bool
) -> dict[str, Any]:
    variables = {
        **special_tokens,
        "add_generation_prompt": add_generation_prompt,
        "enable_thinking": options.enable_thinking,
        # DeepSeek-V3.1's and Granite's name for it, which they leave undefined for no thought.
        **({"thinking": True} if options.enable_thinking else {}),
    }
    return {"template": text, "date": options.date, "variables": variables}


def _asked(**request: Any) -> list[Mapping[str, str]]:
    """What `template_sandbox.py` answers in a child process. Raises ChildError."""
    with lent_child(template_sandbox.__name__, LIMITS) as child:
        return [json.loads(answer) for answer in child.ask(**request)]


@dataclasses.dataclass(frozen=True)
class ChatFrame:
    """The text that a template puts around the user's text and the reply.

    A prompt is `before + user + after`; the reply that follows is `lead + text + tail`, where `tail` starts
    with the end of the turn. If `after` opens a thought, `closing` ends it, empty, and `lead` is what then
    stands before the reply.
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
    thought: Thought | None = None
    closing: str = ""

    def prompt_parts(self, user_text: str) -> tuple[str, str, str]:
        """The template's text before the user's, the user's text as written, and the template's text after.

        Raises:
          InputError: the template changes this text, so its position is unknown.
        """
        return self._parts(user_text, self.template.render(self._asked(user_text), True))

    def parts_of(self, user_texts: Sequence[str]) -> list[tuple[str, str, str]]:
        """`prompt_parts` of each."""
        rendered = self.template.render_prompts(list(map(self._asked, user_texts)))
        return list(map(self._parts, user_texts, rendered))

    def _asked(self, user_text: str) -> list[Message]:
        return _messages(self.opening, self.merged, user_text)

    def _parts(self, user_text: str, rendered: str) -> tuple[str, str, str]:
        written = user_text.lstrip() if self.trims_left else user_text
        written = written.rstrip() if self.trims_right else written
        if rendered != self.before + written + self.after:
            raise InputError(
                f"{self.template.source}: the chat template does not write the user's text"
                f" {brief(user_text)} unchanged"
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
    # A prompt may end differently from the start of a finished turn (a closed thought): then no lead.
    lead = before_reply.removeprefix(prompt) if before_reply.startswith(prompt) else ""
    thought, closing = open_thought(after, template.text), ""
    if thought is not None:
        between = lead if thought.closer in lead else _between(template, messages, thought)
        begun, closer, lead = between.partition(thought.closer)
        closing = begun + closer
    elif (found := closed_thought(lead)) is not None:  # the model writes the opening marker, too
        thought, closing, lead = found
    return ChatFrame(
        template=template,
        opening=opening,
        merged=merged,
        before=before,
        after=after,
        trims_left=left == before,
        trims_right=right == after,
        lead=lead,
        tail=tail,
        thought=thought,
        closing=closing,
    )


def _between(template: ChatTemplate, messages: Sequence[Message], thought: Thought) -> str:
    """What stands between an empty thought and its reply, its closing marker included.

    It is what the template writes between a thought (a field of its own, or within the reply) and the rest.
    Many drop the thought: then it is closed on a line of its own if it was opened on one, and a blank line
    follows, as DeepSeek-R1 and Qwen3 write it.
    """
    within = f"{thought.opener}{_THOUGHT}{thought.closer}{_REPLY}"
    fields = ({"content": _REPLY, name: _THOUGHT} for name in ("reasoning_content", "thinking"))
    for said in (*fields, {"content": within}):
        written = template.render_if_accepted([*messages, {"role": "assistant", **said}])
        between = written.partition(_THOUGHT)[2].partition(_REPLY)[0]
        if thought.closer in between and between != thought.closer:  # not just copied
            return between
    on_lines = "\n" in thought.begun and "/" in thought.closer
    return f"\n{thought.closer}\n\n" if on_lines else thought.closer


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
