"""What transformers makes of tokenizer files that were written here.

Runs in the peers' environment: `python tokenizer_files.py FOLDER`. Each folder in it holds tokenizer files
and `texts.json`; `ids.json` gets the prompts that apply_chat_template makes of the texts, and the end token.
"""

import json
import sys
from pathlib import Path

from transformers import AutoTokenizer

for texts in sorted(Path(sys.argv[1]).glob("*/texts.json")):
    tokenizer = AutoTokenizer.from_pretrained(texts.parent)
    prompts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        for text in json.loads(texts.read_text("utf-8"))
    ]
    found = {"prompts": prompts, "eos": tokenizer.eos_token_id, "pad": tokenizer.pad_token_id}
    texts.with_name("ids.json").write_text(json.dumps(found), "utf-8")
