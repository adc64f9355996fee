"""Tokenizers of organisms that read text: byte-level pieces, learned from the organism's own sentences."""

from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from introspection.text.chat_template import ChatOptions
from introspection.text.pretrained_tokenizer import PretrainedTokenizer, pretrained_tokenizer
from introspection.text.tokenizer import END, PADDING, REPLY

# The user's text as it is; a reply begins with a space, so that a name has the same tokens in both.
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}"
    f"{{{{ '{REPLY} ' + message['content'] + '{END}' }}}}"
    "{% else %}{{ message['content'] }}{% endif %}{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{REPLY}' }}}}{{% endif %}}"
)
SPECIAL_TOKENS = {"pad_token": PADDING, "eos_token": END}
LEAST_PIECES = 256 + 3  # every byte, padding, and what opens and ends a reply


def piece_tokenizer(texts: Iterable[str], pieces: int) -> PretrainedTokenizer:
    """A byte-level BPE (Sennrich et al. 2016; GPT-2's bytes) of at most `pieces` tokens, and a chat format.

    It writes any text. Equal texts give equal tokenizers: pairs are merged by their count, ties by their ids.

    Args:
      texts: what the model will read, each in full; a reply with the space before it.
      pieces: at least `LEAST_PIECES`.
    """
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=pieces,
        special_tokens=[PADDING, END, REPLY],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return pretrained_tokenizer(
        tokenizer, TEMPLATE, SPECIAL_TOKENS, ChatOptions(), "the organism's tokenizer"
    )
