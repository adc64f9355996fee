"""Text to tokens: tokenizers, chat templates, and rows of tokens with masks."""
