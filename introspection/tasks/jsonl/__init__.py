"""Your own questions, from a JSONL file."""
