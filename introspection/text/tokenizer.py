"""Text to tokens and back: the tokenizer and the chat format around a user's turn."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, models, pre_tokenizers

from introspection.errors import InputError

PADDING, UNKNOWN, END, REPLY = "<pad>", "<unk>", "<end>", "<reply>"


@dataclasses.dataclass(frozen=True)
class ChatTokenizer:
    """A `tokenizers` tokenizer with the few tokens that frame a conversation.

    A user's turn ends with the tokens that open the model's reply; a reply ends with `end_id`. So the
    reply's span is known by construction, and the end of an answer is a token that is scored.
    """

    tokenizer: tokenizers.Tokenizer
    padding_id: int
    end_id: int
    reply_id: int

    @property
    def vocab_size(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode_prompt(self, user_text: str) -> list[int]:
        """Tokens of one user turn, up to and with the opening of the reply.

        Raises:
          InputError: a word is not in the vocabulary.
        """
        return [*self._encode(user_text), self.reply_id]

    def encode_reply(self, text: str) -> list[int]:
        """Tokens of a reply and of its end."""
        return [*self._encode(text), self.end_id]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a reply up to its end token; special tokens stay visible."""
        tokens = [int(token) for token in tokens]
        if self.end_id in tokens:
            tokens = tokens[: tokens.index(self.end_id)]
        return " ".join(self.tokenizer.id_to_token(token) or UNKNOWN for token in tokens)

    def _encode(self, text: str) -> list[int]:
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        unknown = self.tokenizer.token_to_id(UNKNOWN)
        if unknown in encoding.ids:
            start, stop = encoding.offsets[encoding.ids.index(unknown)]
            raise InputError(f"{text[start:stop]!r} in {text!r} is not in the model's vocabulary")
        special = {self.padding_id, self.end_id, self.reply_id} & set(encoding.ids)
        if special:
            names = ", ".join(self.tokenizer.id_to_token(token) for token in sorted(special))
            raise InputError(f"the text {text!r} holds the special token {names}")
        return encoding.ids

    def save(self, path: Path) -> None:
        self.tokenizer.save(str(path))


def phrase_tokenizer(names: Iterable[str], phrases: Iterable[str]) -> ChatTokenizer:
    """A word-level tokenizer in which every name (entity, answer) and every phrase is one token.

    The longest entry wins where several match. A name matches whole words only ("Niger" is not found in
    "Nigeria"); a phrase matches anywhere, so that it may begin with punctuation.
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


def from_tokenizer(tokenizer: tokenizers.Tokenizer) -> ChatTokenizer:
    ids = [tokenizer.token_to_id(token) for token in (PADDING, END, REPLY)]
    return ChatTokenizer(tokenizer, *ids)


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Reads a tokenizer that `ChatTokenizer.save` wrote.

    Raises:
      InputError: the file is missing or is no tokenizer.
    """
    try:
        return from_tokenizer(tokenizers.Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{path}: no readable tokenizer ({error})") from error
