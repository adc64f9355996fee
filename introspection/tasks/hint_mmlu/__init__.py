"""MMLU questions with hints that name an answer."""
