"""A pretrained model's tokenizer with its chat template."""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from introspection.errors import InputError, brief, shortened
from introspection.runtime.json_files import read_object
from introspection.runtime.workdir import write_whole
from introspection.tasks.items import Prompt
from introspection.text.chat_template import (
    PLAIN_FORMAT,
    PLAIN_TEMPLATE,
    ChatFrame,
    ChatOptions,
    ChatTemplate,
    chat_frame,
)
from introspection.text.literal_text import LiteralTokenizer, literal_tokenizer
from introspection.text.thoughts import Thought, after_lone_closer, after_thought, own_opener
from introspection.text.tokenizer_trial import check_tokenizer_file

CHAT = "chat.json"  # beside the tokenizer's file: template, special tokens, options
PLAIN_NOTE = (
    f"The model has no chat template, so prompts are written as {PLAIN_FORMAT}; the chat option "
    "template sets another format."
)


@dataclasses.dataclass(frozen=True)
class PretrainedTokenizer:
    """Encodes prompts as the model's family does, and replies as the model would have written them.

    Control tokens in the text of the user or the reply are read as text. A reply ends with `end_id`, the
    token that ends a turn in the template (`<|im_end|>`, `<|eot_id|>`, `<end_of_turn>`, `</s>`).
    """

    tokenizer: tokenizers.Tokenizer
    template: ChatTemplate
    stop_ids: tuple[int, ...]  # other tokens that may end a reply
    padding_id: int
    end_id: int
    vocab_size: int  # largest id + 1
    frame: ChatFrame
    literal: LiteralTokenizer
    lead: str  # the template's text between the prompt and the reply's words
    tail: str  # the template's text between the words and the end token
    notes: tuple[str, ...] = ()  # what a user should know about how texts are read

    @property
    def thought(self) -> Thought | None:
        """The thought that prompts leave open."""
        return self.frame.thought

    def encode_prompt(self, prompt: Prompt, through_thought: bool = False) -> list[int]:
        """Tokens of a user turn, or of a conversation, including the opening of the reply.

        Equal to `apply_chat_template` of transformers, except for control tokens in the user's text, and for
        a thought that the template opens: it is closed, unless a reply is generated `through_thought`.

        Raises:
          InputError: the template changes this text, the text has an unpaired surrogate, or an earlier turn
            has a control token.
        """
        if isinstance(prompt, str):
            return self._encode(self.frame, prompt, through_thought)
        *earlier, last = prompt.turns
        for turn in earlier:  # rendered as part of the template's text, where such a token would count
            if held := self.literal.control.search(turn.content):
                raise InputError(f"an earlier {turn.role} turn has the control token {held[0]}; remove it")
        messages = [{"role": turn.role, "content": turn.content} for turn in earlier]
        return self._encode(chat_frame(self.template, messages), last.content, through_thought)

    def encode_prompts(self, prompts: Sequence[Prompt], through_thought: bool = False) -> list[list[int]]:
        """As `encode_prompt` for each; a template renders all user turns at once, in half the time."""
        turns = list(dict.fromkeys(prompt for prompt in prompts if isinstance(prompt, str)))
        parts = dict(zip(turns, self.frame.parts_of(turns), strict=True))
        return [
            self._joined(self.frame, parts[prompt], through_thought)
            if isinstance(prompt, str)
            else self.encode_prompt(prompt, through_thought)
            for prompt in prompts
        ]

    def _encode(self, frame: ChatFrame, user_text: str, through_thought: bool) -> list[int]:
        return self._joined(frame, frame.prompt_parts(user_text), through_thought)

    def _joined(self, frame: ChatFrame, parts: tuple[str, str, str], through_thought: bool) -> list[int]:
        before, written, after = parts
        return self.literal.encode(before, written, after if through_thought else after + frame.closing)

    def encode_reply(self, text: str) -> list[int]:
        """Tokens of a reply and its end; the text is kept as is, even if the template would trim it.

        Raises:
          InputError: the vocabulary can't write a part of the text, or the text has an unpaired surrogate.
        """
        tokens = [*self.literal.encode_continuation(self.lead, text, self.tail), self.end_id]
        read = self.decode(tokens)
        if self.literal.canonical(read) != self.literal.canonical(text):
            raise InputError(f"the model's vocabulary can't write {brief(text)}, only {brief(read)}")
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply up to its end token; control tokens stay visible."""
        tokens = [int(token) for token in tokens]
        stops = {self.end_id, *self.stop_ids}
        length = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
        text = _without_start(self.literal.decode(tokens[:length]), self.lead)
        return text if length == len(tokens) else _without_end(text, self.tail)

    def answer(self, text: str, through_thought: bool = False) -> str:
        """The part of a decoded reply that follows its thought; "" if the thought does not end.

        Args:
          through_thought: as in `encode_prompt`. Else only a thought counts that the reply opens itself.
        """
        opened = self.thought if through_thought else None
        opener = opened.opener if opened else own_opener(text)
        if not opener:
            return after_lone_closer(text)
        found = after_thought(text, opener)
        if found is None and opened is None and not self._knows(opener):
            return text  # ordinary words in brackets
        return found or ""

    def _knows(self, marker: str) -> bool:
        return marker in self.template.text or self.tokenizer.token_to_id(marker) is not None

    def read_anywhere(self, tokens: Iterable[str]) -> list[str]:
        """Those of some tokens that a model may read: text, and what the template or a reply's end writes.

        Other control tokens it never reads: neither those in a user's text nor padding.
        """
        written = self.template.written + self.frame.closing
        unknown = getattr(self.tokenizer.model, "unk_token", None)
        ends = (unknown, self.tokenizer.id_to_token(self.end_id))
        control = self.literal.control.fullmatch
        return [token for token in tokens if token in ends or token in written or not control(token)]

    def chat_format(self) -> dict[str, Any]:
        """What determines the tokens of a prompt and a reply, besides the vocabulary."""
        special = {
            name: text
            for name, text in self.template.special_tokens.items()
            if name in ("bos_token", "eos_token", "unk_token") or name in self.template.text
        }
        options = dataclasses.asdict(self.template.options)
        del options["template"]  # already in `template.text`
        return {"template": self.template.text, "special_tokens": special, **options}

    def save(self, path: Path) -> None:
        """Writes the tokenizer to `path` and the chat format to `chat.json` beside it."""
        self.tokenizer.save(str(path))
        fields = {
            "template": self.template.text,
            "special_tokens": dict(self.template.special_tokens),
            "stop_ids": self.stop_ids,
            "options": dataclasses.asdict(self.template.options),
        }
        write_whole(path.with_name(CHAT), json.dumps(fields, indent=1, ensure_ascii=False))


def pretrained_tokenizer(
    tokenizer: tokenizers.Tokenizer,
    template: str | None,
    special_tokens: Mapping[str, str],
    chat: ChatOptions,
    source: str,
    stop_ids: Sequence[int] = (),
    notes: Sequence[str] = (),
) -> PretrainedTokenizer:
    """Combines a tokenizer and a chat template.

    Args:
      template: the model's own; None for a base model, which gets PLAIN_TEMPLATE, after the token that its
        tokenizer puts before every text, if any.
      special_tokens: texts of bos_token, eos_token, pad_token and so on, as far as the model has them.
      source: the template's file, for messages.
      stop_ids: tokens that end a generation, besides the one that ends a turn.
      notes: on the files, for the user.

    Raises:
      InputError: the template is unusable; a special token is not in the vocabulary; nothing ends a reply.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for name, token in special_tokens.items():
        if tokenizer.token_to_id(token) is None:
            raise InputError(f"{source}: the {name} {token!r} is not in the tokenizer's vocabulary")
    eos = special_tokens.get("eos_token")
    if eos is None and not (chat.template or template):
        raise InputError(f"{source}: a model without a chat template needs an eos_token; declare it there")
    text = chat.template or template or _begin(tokenizer) + PLAIN_TEMPLATE
    written = ChatTemplate(text, dict(special_tokens), chat, source)
    frame = chat_frame(written)
    literal = literal_tokenizer(tokenizer, written.written, frame.after, source)
    if chat.system and (found := literal.control.search(chat.system)):
        raise InputError(f"chat.system: the text has the control token {found[0]}; leave it to the template")
    end = literal.control.search(frame.tail)
    end_token = end[0] if end else eos
    if end_token is None:
        raise InputError(
            f"{source}: nothing ends a reply, neither the chat template nor an eos_token; declare one"
        )
    known: Any = tokenizer.token_to_id  # all of these are in the vocabulary
    end_id, padding = known(end_token), special_tokens.get("pad_token")
    stops = {*stop_ids, *([known(eos)] if eos else [])} - {end_id}
    return PretrainedTokenizer(
        tokenizer=tokenizer,
        template=written,
        stop_ids=tuple(sorted(stops)),
        padding_id=end_id if padding is None else known(padding),
        end_id=end_id,
        vocab_size=max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1,
        frame=frame,
        literal=literal,
        lead=_lead(frame, literal),
        tail=frame.tail[: end.start()] if end else "",
        notes=(*notes, *([PLAIN_NOTE] if text.endswith(PLAIN_TEMPLATE) else [])),
    )


def load_pretrained(path: Path) -> PretrainedTokenizer:
    """Reads the files of `PretrainedTokenizer.save`. Raises InputError if a file is missing or unreadable."""
    chat = path.with_name(CHAT)
    try:
        fields = read_object(chat)
        options = ChatOptions(**fields["options"])
        parts = fields["template"], fields["special_tokens"], options, str(chat), fields["stop_ids"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{chat}: not a readable chat format ({error})") from error
    return pretrained_tokenizer(read_tokenizer(path), *parts)


def read_tokenizer(path: Path) -> tokenizers.Tokenizer:
    """Reads a `tokenizer.json`.

    Raises:
      InputError: it is missing or no tokenizer, or takes too much time or memory (`check_tokenizer_file`).
    """
    try:
        check_tokenizer_file(path)
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        if isinstance(tokenizer.model, tokenizers.models.BPE):
            tokenizer.encode("\U0010fffd")  # unknown text, which fails if the unk_token is not a token
    except (InputError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and panics, which are not Exceptions
        fault = shortened(" ".join(str(error).split()))
        raise InputError(f"{path}: not a readable tokenizer ({fault})") from error
    if getattr(tokenizer.model, "dropout", None):
        tokenizer.model.dropout = None  # for training only: it makes a text's tokens random
    return tokenizer


def _begin(tokenizer: tokenizers.Tokenizer) -> str:
    """What the tokenizer puts before every text, as the start of a template."""
    ids, plain = (tokenizer.encode("x", add_special_tokens=special).ids for special in (True, False))
    return "{{ bos_token }}" if len(ids) > len(plain) and ids[0] != plain[0] else ""


def _lead(frame: ChatFrame, literal: LiteralTokenizer) -> str:
    """The text before a reply's words, with the space that a SentencePiece-like tokenizer adds.

    Some add one after every control token (`LiteralTokenizer.prefix`). And if the words directly follow the
    prompt's last word (older Mistral's `[/INST]`), the family encodes a reply as its own text, with a space
    at the start.
    """
    after = frame.after + frame.closing
    after_control = any(match.end() == len(after) for match in literal.control.finditer(after))
    if after_control:
        puts = literal.prefix == "always" or (literal.prefix == "unspaced" and not frame.lead.startswith(" "))
        return " " + frame.lead if puts else frame.lead
    against_a_word = not frame.lead and not after[-1:].isspace()
    return " " if literal.prefix != "none" and against_a_word else frame.lead


def _without_start(text: str, lead: str) -> str:
    """Removes the lead; a model may write fewer spaces than its template, but words must match."""
    spaces = len(text) - len(text.lstrip(" "))
    return text[min(len(lead), spaces) :] if lead.strip(" ") == "" else text.removeprefix(lead)


def _without_end(text: str, tail: str) -> str:
    return _without_start(text[::-1], tail[::-1])[::-1]
