"""How it is written: tokenizer, chat format, rows to token arrays with masks."""
