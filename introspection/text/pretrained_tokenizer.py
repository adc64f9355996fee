"""A pretrained model's tokenizer with its chat template."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from introspection.errors import InputError
from introspection.runtime.json_files import open_file, read_object
from introspection.runtime.workdir import write_whole
from introspection.tasks.items import Prompt
from introspection.text.chat_template import PLAIN_TEMPLATE, ChatFrame, ChatOptions, ChatTemplate, chat_frame
from introspection.text.literal_text import LiteralTokenizer, literal_tokenizer, shortened

CHAT = "chat.json"  # beside the tokenizer's file: template, special tokens, options


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

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Tokens of a user turn, or of a conversation, including the opening of the reply.

        Equal to `apply_chat_template` of transformers, except for control tokens in the user's text.

        Raises:
          InputError: the template changes this text, the text has an unpaired surrogate, or an earlier turn
            has a control token.
        """
        if isinstance(prompt, str):
            return self.literal.encode(*self.frame.prompt_parts(prompt))
        *earlier, last = prompt.turns
        for turn in earlier:  # rendered as part of the template's text, where such a token would count
            if held := self.literal.control.search(turn.content):
                raise InputError(f"an earlier {turn.role} turn has the control token {held[0]}; remove it")
        messages = [{"role": turn.role, "content": turn.content} for turn in earlier]
        return self.literal.encode(*chat_frame(self.template, messages).prompt_parts(last.content))

    def encode_reply(self, text: str) -> list[int]:
        """Tokens of a reply and its end; the text is kept as is, even if the template would trim it.

        Raises:
          InputError: the vocabulary can't write a part of the text, or the text has an unpaired surrogate.
        """
        tokens = [*self.literal.encode_continuation(self.lead, text, self.tail), self.end_id]
        read = self.decode(tokens)
        if self.literal.canonical(read) != self.literal.canonical(text):
            raise InputError(
                f"the model's vocabulary can't write {shortened(text)!r}, only {shortened(read)!r}"
            )
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply up to its end token; control tokens stay visible."""
        tokens = [int(token) for token in tokens]
        stops = {self.end_id, *self.stop_ids}
        length = next((i for i, token in enumerate(tokens) if token in stops), len(tokens))
        text = _without_start(self.literal.decode(tokens[:length]), self.lead)
        return text if length == len(tokens) else _without_end(text, self.tail)

    def written_by_nobody(self, token: str) -> bool:
        """Whether a token is special, but neither written by the template nor the end of a reply.

        No input contains such a token, since texts of users and replies are not read for control tokens.
        """
        index = self.tokenizer.token_to_id(token)
        added = None if index is None else self.tokenizer.get_added_tokens_decoder().get(index)
        written = token in self.template.text or token in self.template.special_tokens.values()
        ends = index in {self.end_id, self.padding_id, *self.stop_ids}
        return added is not None and added.special and not written and not ends

    def chat_format(self) -> dict[str, Any]:
        """What determines the tokens of a prompt and a reply, besides the vocabulary."""
        special = {name: text for name, text in self.template.special_tokens.items() if name != "pad_token"}
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
) -> PretrainedTokenizer:
    """Combines a tokenizer and a chat template.

    Args:
      template: the model's own; None for a base model, which gets PLAIN_TEMPLATE, after the token that its
        tokenizer puts before every text, if any.
      special_tokens: texts of bos_token, eos_token, pad_token, unk_token, if the model has them.
      source: the template's file, for messages.
      stop_ids: tokens that end a generation, besides the one that ends a turn.

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
    literal = literal_tokenizer(tokenizer, text, source)
    if chat.system and (found := literal.control.search(chat.system)):
        raise InputError(f"chat.system: the text has the control token {found[0]}; leave it to the template")
    frame = chat_frame(written)
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
    """Reads a `tokenizer.json`. Raises InputError if it is missing or not a tokenizer."""
    try:
        open_file(path).close()  # not a pipe, for which the library would wait
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
        if isinstance(tokenizer.model, tokenizers.models.BPE):
            tokenizer.encode("\U0010fffd")  # unknown text, which fails if the unk_token is not a token
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises bare Exception, and panics, which are not Exceptions
        raise InputError(f"{path}: not a readable tokenizer ({' '.join(str(error).split())})") from error
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
    after_control = any(match.end() == len(frame.after) for match in literal.control.finditer(frame.after))
    if after_control:
        puts = literal.prefix == "always" or (literal.prefix == "unspaced" and not frame.lead.startswith(" "))
        return " " + frame.lead if puts else frame.lead
    against_a_word = not frame.lead and not frame.after[-1:].isspace()
    return " " if literal.prefix != "none" and against_a_word else frame.lead


def _without_start(text: str, lead: str) -> str:
    """Removes the lead; a model may write fewer spaces than its template, but words must match."""
    spaces = len(text) - len(text.lstrip(" "))
    return text[min(len(lead), spaces) :] if lead.strip(" ") == "" else text.removeprefix(lead)


def _without_end(text: str, tail: str) -> str:
    return _without_start(text[::-1], tail[::-1])[::-1]
