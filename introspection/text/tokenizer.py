"""Text to tokens and back: the interface of tokenizers, and the organisms' word-level one."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers

from introspection.errors import InputError
from introspection.tasks.items import Prompt
from introspection.text.literal_text import library_faults
from introspection.text.pretrained_tokenizer import CHAT, PretrainedTokenizer, load_pretrained, read_tokenizer
from introspection.text.thoughts import Thought

PADDING, UNKNOWN, END, REPLY = "<pad>", "<unk>", "<end>", "<reply>"


@runtime_checkable
class ChatTokenizer(Protocol):
    """What the code needs of a tokenizer; implemented by `WordTokenizer` and `PretrainedTokenizer`.

    A user's turn ends with the tokens that open the model's reply; a reply ends with `end_id`. So the
    reply's span is known by construction, and the end of an answer is scored too. A generated reply may also
    end with one of `stop_ids`.
    """

    @property
    def tokenizer(self) -> tokenizers.Tokenizer: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def end_id(self) -> int: ...
    @property
    def stop_ids(self) -> tuple[int, ...]: ...
    @property
    def padding_id(self) -> int: ...
    @property
    def thought(self) -> Thought | None: ...
    def encode_prompt(self, prompt: Prompt, through_thought: bool = False) -> list[int]: ...
    def encode_prompts(self, prompts: Sequence[Prompt], through_thought: bool = False) -> list[list[int]]: ...
    def encode_reply(self, text: str) -> list[int]: ...
    def decode(self, tokens: Sequence[int]) -> str: ...
    def answer(self, text: str, through_thought: bool = False) -> str: ...
    def save(self, path: Path) -> None: ...


@dataclasses.dataclass(frozen=True)
class WordTokenizer:
    """A tokenizer whose tokens are words and phrases, plus a few that frame a conversation."""

    tokenizer: tokenizers.Tokenizer
    padding_id: int
    end_id: int
    reply_id: int

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return ()

    @property
    def thought(self) -> None:
        return None

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode_prompt(self, prompt: Prompt, through_thought: bool = False) -> list[int]:
        """Tokens of one user turn, including the opening of the reply; an organism has no thoughts.

        Raises:
          InputError: a word is not in the vocabulary, or there are several turns.
        """
        del through_thought
        if not isinstance(prompt, str):
            raise InputError(f"an organism reads one user turn, not a conversation: {str(prompt)[:80]!r}")
        return [*self._encode(prompt), self.reply_id]

    def encode_prompts(self, prompts: Sequence[Prompt], through_thought: bool = False) -> list[list[int]]:
        """As `encode_prompt` for each."""
        return [self.encode_prompt(prompt, through_thought) for prompt in prompts]

    def encode_reply(self, text: str) -> list[int]:
        """Tokens of a reply and of its end."""
        return [*self._encode(text), self.end_id]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply up to its end token; special tokens stay visible."""
        tokens = [int(token) for token in tokens]
        if self.end_id in tokens:
            tokens = tokens[: tokens.index(self.end_id)]
        return " ".join(self.tokenizer.id_to_token(token) or UNKNOWN for token in tokens)

    def answer(self, text: str, through_thought: bool = False) -> str:
        del through_thought
        return text

    def _encode(self, text: str) -> list[int]:
        with library_faults("tokenizer.json", f"the text {text!r}"):
            encoding = self.tokenizer.encode(text, add_special_tokens=False)
        unknown = self.tokenizer.token_to_id(UNKNOWN)
        if unknown in encoding.ids:
            start, stop = encoding.offsets[encoding.ids.index(unknown)]
            raise InputError(f"{text[start:stop]!r} in {text!r} is not in the model's vocabulary")
        special = {self.padding_id, self.end_id, self.reply_id} & set(encoding.ids)
        if special:
            names = ", ".join(str(self.tokenizer.id_to_token(token)) for token in sorted(special))
            raise InputError(f"the text {text!r} contains the special token {names}; remove it")
        return encoding.ids

    def save(self, path: Path) -> None:
        path.with_name(CHAT).unlink(missing_ok=True)  # left by a tokenizer of the other kind
        self.tokenizer.save(str(path))


def phrase_tokenizer(names: Iterable[str], phrases: Iterable[str]) -> WordTokenizer:
    """A word-level tokenizer in which every name (entity, answer) and every phrase is one token.

    The longest matching entry wins. A name matches only whole words ("Niger" is not found in "Nigeria"); a
    phrase matches anywhere, so it may start with punctuation.
    """
    names, phrases = sorted(set(names)), sorted(set(phrases))
    vocabulary = {}
    for entry in [PADDING, UNKNOWN, END, REPLY, *phrases, *names]:
        vocabulary.setdefault(entry, len(vocabulary))
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    # Multi-word entries are matched before white space splits the text, longest first.
    tokenizer.add_tokens(
        [AddedToken(phrase, normalized=False) for phrase in phrases]
        + [AddedToken(name, normalized=False, single_word=True) for name in names if name not in phrases]
    )
    return from_tokenizer(tokenizer)


def from_tokenizer(tokenizer: tokenizers.Tokenizer) -> WordTokenizer:
    ids: Any = [tokenizer.token_to_id(token) for token in (PADDING, END, REPLY)]  # none is None
    return WordTokenizer(tokenizer, *ids)


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Reads a tokenizer that `save` of either kind wrote; `chat.json` beside it marks a pretrained one.

    Raises:
      InputError: a file is missing or not a tokenizer.
    """
    if path.with_name(CHAT).is_file():
        return load_pretrained(path)
    tokenizer = read_tokenizer(path)
    missing = [token for token in (PADDING, END, REPLY) if tokenizer.token_to_id(token) is None]
    if missing:
        raise InputError(
            f"{path}: a word-level tokenizer needs {missing[0]}; a pretrained one needs {CHAT} beside it"
        )
    return from_tokenizer(tokenizer)


def chat_format(tokenizer: ChatTokenizer) -> dict[str, Any]:
    """What determines the tokens of prompts and replies, besides the vocabulary; {} if nothing does."""
    return tokenizer.chat_format() if isinstance(tokenizer, PretrainedTokenizer) else {}


def reading_notes(tokenizer: ChatTokenizer) -> tuple[str, ...]:
    """What a user should know about how a model's texts are read; none for organisms."""
    return tokenizer.notes if isinstance(tokenizer, PretrainedTokenizer) else ()


def same_reading(one: ChatTokenizer, other: ChatTokenizer) -> bool:
    """Whether every prompt and reply gets the same tokens."""
    same = one.tokenizer.to_str() == other.tokenizer.to_str()
    return one is other or (same and chat_format(one) == chat_format(other))


def check_embedding(tokenizer: ChatTokenizer, rows: int, source: str) -> None:
    """Raises InputError if a tokenizer has ids beyond a model's `rows` of embedding that the model may read.

    Control tokens that it never reads do no harm there: padding, or the published Gemma 3 1B's for images.
    """
    if tokenizer.vocab_size <= rows:
        return
    beyond = [text for text, index in tokenizer.tokenizer.get_vocab().items() if index >= rows]
    if isinstance(tokenizer, PretrainedTokenizer):
        beyond = tokenizer.read_anywhere(beyond)
    if beyond:
        raise InputError(
            f"{source}: the tokenizer has {tokenizer.vocab_size} tokens, but the model's embedding has "
            f"{rows} rows, and none for {beyond[0]!r}; they don't belong together"
        )
