"""What transformers makes of tokens that are declared in different places, by folder.

Runs in the peers' environment: `python declared_tokens.py FOLDER`. Writes `texts.json` and, for every way to
declare tokens, a folder with its tokenizer's files and `reference.json`: ids of prompts and conversations,
the special tokens, and the tokens that end a generation.
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer, GenerationConfig

sys.path.insert(0, str(Path(__file__).parent.parent))
from declared_cases import FAMILIES, PLACES, TEXTS, family, place


def stops(folder: Path) -> list[int]:
    """As a model's `adjust_generation_fn` reads them."""
    if (folder / "generation_config.json").exists():
        found = GenerationConfig.from_pretrained(folder)
    elif (folder / "config.json").exists():
        found = GenerationConfig.from_pretrained(
            folder, config_file_name="config.json", _from_model_config=True
        )
    else:
        return []
    ends = found.eos_token_id
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def refer(folder: Path) -> None:
    """Writes `reference.json`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(*said: str) -> list[int]:
        messages = [
            {"role": role, "content": text} for role, text in zip(("user", "assistant"), said, strict=False)
        ]
        return tokenizer.apply_chat_template(
            messages, add_generation_prompt=len(said) == 1, return_dict=False, enable_thinking=False
        )

    found = {
        "prompts": [ids(text) for text in TEXTS],
        "conversations": [ids("Why?", text.strip()) for text in TEXTS],
        "named": tokenizer.special_tokens_map,
        "tokens": tokenizer.get_added_vocab(),
        "stops": stops(folder),
    }
    (folder / "reference.json").write_text(json.dumps(found), "utf-8")


def main(out: Path) -> None:
    for names, write in ((PLACES, place), (FAMILIES, family)):
        for name in names:
            refer(write(out / name, name))
    (out / "texts.json").write_text(json.dumps(TEXTS), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
