"""Small tokenizers of every family, trained here, and what transformers and sentencepiece make of many texts.

Runs in the peers' environment: `python tokenizers_reference.py FOLDER`. Writes `texts.json` and a folder a
family: the tokenizer as transformers saves it, `reference.json` and, where GGUF has such a vocabulary,
`gguf.json`.
"""

import glob
import json
import os
import random
import sys
from pathlib import Path

import sentencepiece
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

sys.path.insert(0, str(Path(__file__).parent.parent))
import chat_templates

DATE = "26 Jul 2024"
SYSTEM = "Answer in one word,  please.\n"
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PHRASES = [
    *(
        "What is the capital of Norway?",
        "Ich weiß nicht, ob das stimmt – vielleicht.",
        "Où est la bibliothèque ?",
    ),
    *("Привет, как дела?", "你好，世界！这是一个测试。", "日本語のテキストとカタカナ", "한국어 텍스트입니다"),
    *("مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "Γειά σου Κόσμε", "สวัสดีชาวโลก"),
    *(
        "e\u0301 A\u030a \u1e9b\u0323 ﬁ ²",
        "😀👍🏽🇺🇸❤️‍🔥👨‍👩‍👧",
        "1234567890",
        "3.14159 and 1,000,000",
        "٣٤٥ ½ Ⅷ 二十",
    ),
    *("x = {'a': [1, 2]}", "def f(x):\n    return x ** 2\n", "don't I'M we'll they'VE it's", "a\tb\t\tc"),
    *("line\r\nbreak\r\n\r\n", "\n\n\n", "   ", " lead", "trail ", "  two  spaces  "),
    *("\u00a0nbsp\u2003em\u200bzero", "\u202eright to left\u202c", "A" * 300, "ab" * 200, "!?" * 40),
    *("https://example.com/a?b=c#d", "[INST] do [/INST]", "<<SYS>>\nbe\n<</SYS>>", "Question: why?\nAnswer:"),
    *("<table><h1>", "\x00\x07\x1b", "𝒳𝔘𐍈", "\ufffd\ufdd0", "I think it is Oslo, but I am not sure."),
    *("12 apples  34\n56", "end.\n\nNew"),
]
SPECIALS = [
    *(
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|begin_of_text|>",
        "<|eot_id|>",
        "<|start_header_id|>",
    ),
    *("<s>", "</s>", "<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<think>", "</think>"),
    *("<tool_call>", "<|fim_prefix|>", "[INST]", "[/INST]"),
]
USER_DEFINED = ["\n\n", "\n\n\n", "<table>", "<h1>"]


def corpus() -> list[str]:
    """Python's own library as text, and the phrases."""
    paths = sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[:60]
    lines = [line for path in paths for line in Path(path).read_text("utf-8").splitlines() if line.strip()]
    return lines[:12000] + PHRASES * 20


def texts(count: int) -> list[str]:
    random.seed(0)
    parts = [
        *PHRASES,
        *(word for phrase in PHRASES for word in phrase.split()),
        " ",
        "  ",
        "\n",
        "\t",
        ",",
        "7",
        "",
    ]
    found = list(PHRASES)
    while len(found) < count:
        kind = random.random()
        if kind < 0.6:
            words = [random.choice(parts) for _ in range(random.randint(1, 6))]
            text = "".join(word + random.choice(["", " ", " "]) for word in words)
        elif kind < 0.75:
            blocks = random.choices([(1, 0x2FF), (0x300, 0xD7FF), (0xE000, 0x1FFFF)], k=random.randint(1, 12))
            text = "".join(chr(random.randint(*block)) for block in blocks)
        elif kind < 0.85:
            text = "".join(random.choice(" \n\r\t\u00a0.1aA'") for _ in range(random.randint(1, 20)))
        else:
            text = (
                random.choice(parts)
                + random.choice(SPECIALS)
                + random.choice(["", " "])
                + random.choice(parts)
            )
        found.append(text)
    return found


def byte_level(
    pre_tokenizer, size, first=(), alphabet=True, normalizer=None, ignore_merges=False
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=list(first), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if alphabet else [],
    )  # fmt: skip
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def split(pattern: str):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip


def special(*names: str, **flags) -> list[AddedToken]:
    return [AddedToken(name, normalized=False, **flags) for name in names]


def sentencepiece_model(folder: Path, **options) -> sentencepiece.SentencePieceProcessor:
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "corpus.txt"
    lines.write_text("\n".join(line for line in corpus() if "\x00" not in line), "utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(lines), model_prefix=str(folder / "sp"), model_type="bpe", vocab_size=1500,
        byte_fallback=True, character_coverage=0.999, normalization_rule_name="identity",
        remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2,
        num_threads=1, **options,
    )  # fmt: skip
    lines.unlink()
    return sentencepiece.SentencePieceProcessor(model_file=str(folder / "sp.model"))


def sentencepiece_fields(sp: sentencepiece.SentencePieceProcessor, add_space_prefix: bool) -> dict:
    """The GGUF fields of a SentencePiece model, as llama.cpp's converter writes them."""
    size = sp.get_piece_size()
    control = {*(i for i in range(size) if sp.is_control(i))}
    words = {"<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]"}
    types = []
    for i in range(size):
        piece = sp.id_to_piece(i)
        if sp.is_unknown(i):
            types.append(2)
        elif i in control or piece in words:
            types.append(3)
        elif sp.is_byte(i):
            types.append(6)
        else:
            types.append(4 if piece in USER_DEFINED else 1)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [sp.id_to_piece(i) for i in range(size)],
        "tokenizer.ggml.scores": [sp.get_score(i) for i in range(size)],
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.bos_token_id": sp.bos_id(),
        "tokenizer.ggml.eos_token_id": sp.eos_id(),
        "tokenizer.ggml.unknown_token_id": sp.unk_id(),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": add_space_prefix,
    }


def from_sentencepiece(sp: sentencepiece.SentencePieceProcessor, scheme: str) -> Tokenizer:
    """transformers' conversion: `legacy` (Prepend), `first` (Metaspace) or `gemma` (no space put before)."""
    vocab = {sp.id_to_piece(i): i for i in range(sp.get_piece_size())}
    scores = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]
    merges = generate_merges(vocab, scores)
    unk = sp.id_to_piece(sp.unk_id())
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token=unk, fuse_unk=True, byte_fallback=True))
    decoder = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if scheme == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        decoder.append(decoders.Strip(" ", 1, 0))
    elif scheme == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(
            replacement="▁", prepend_scheme="first", split=False
        )
        decoder.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence(decoder)
    control = [i for i in range(sp.get_piece_size()) if sp.is_control(i) or sp.is_unknown(i)]
    tokenizer.add_special_tokens(special(*(sp.id_to_piece(i) for i in control)))
    bos = sp.id_to_piece(sp.bos_id())
    begin = [(bos, sp.bos_id())]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=begin)
    return tokenizer


def byte_level_fields(tokenizer: Tokenizer, pre: str, **ids: str) -> dict:
    definition = json.loads(tokenizer.to_str())
    size = tokenizer.get_vocab_size()
    added = {token["id"]: token["special"] for token in definition["added_tokens"]}

    def kind(i: int) -> int:
        return {None: 1, True: 3, False: 4}[added.get(i)]

    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": [tokenizer.id_to_token(i) for i in range(size)] + ["[PAD0]", "[PAD1]"],
        "tokenizer.ggml.token_type": [kind(i) for i in range(size)] + [5, 5],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in definition["model"]["merges"]],
        **{f"tokenizer.ggml.{name}_token_id": tokenizer.token_to_id(token) for name, token in ids.items()},
    }


def rendered(tokenizer, messages, tokenize, generation=True):
    options = {"date_string": DATE, "enable_thinking": False}
    return tokenizer.apply_chat_template(
        messages, add_generation_prompt=generation, tokenize=tokenize, return_dict=False, **options
    )


def write(folder, tokenizer, template, fields=None, jinja_file=True, system=True, sp=None, **tokens) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **tokens)
    fast.save_pretrained(folder, save_jinja_files=jinja_file)
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    reference = {"ids": [fast(text, add_special_tokens=False)["input_ids"] for text in TEXTS]}
    if template is not None:
        ask = [[{"role": "user", "content": text}] for text in TEXTS]
        reply = [
            [*one, {"role": "assistant", "content": TEXTS[-i].strip() or "x"}] for i, one in enumerate(ask)
        ]
        reference["prompts"] = [rendered(fast, messages, True) for messages in ask]
        reference["prompt_texts"] = [rendered(fast, messages, False) for messages in ask]
        reference["replies"] = [messages[1]["content"] for messages in reply]
        reference["conversations"] = [rendered(fast, messages, True, False) for messages in reply]
        if system:
            reference["with_system"] = [
                rendered(fast, [{"role": "system", "content": SYSTEM}, *messages], True)
                for messages in ask[:200]
            ]
    if sp is not None:
        reference["sentencepiece"] = [sp.encode(text) for text in TEXTS]
    (folder / "reference.json").write_text(json.dumps(reference), "utf-8")
    if fields is not None:
        fields = fields | ({"tokenizer.chat_template": template} if template else {})
        (folder / "gguf.json").write_text(json.dumps(fields), "utf-8")


def main(out: Path) -> None:
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])

    # As the real one, SmolLM2's vocabulary has its special tokens first and lacks some bytes.
    ends = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>"}
    first = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>"]
    smollm2 = byte_level(digits, 1200, first, alphabet=False)
    fields = byte_level_fields(smollm2, "smollm", bos="<|im_start|>", eos="<|im_end|>", padding="<|im_end|>")
    write(out / "smollm2", smollm2, chat_templates.SMOLLM2, fields, jinja_file=False, **ends)

    base = byte_level(gpt2, 1000, ["<|endoftext|>"])
    fields = byte_level_fields(base, "gpt-2", bos="<|endoftext|>", eos="<|endoftext|>")
    write(out / "gpt2", base, None, fields, bos_token="<|endoftext|>", eos_token="<|endoftext|>")

    llama3 = byte_level(split(LLAMA3_PATTERN), 1300, ignore_merges=True)
    llama3.add_special_tokens(special("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>"))
    llama3.add_special_tokens(special("<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"))
    bos = ("<|begin_of_text|>", llama3.token_to_id("<|begin_of_text|>"))
    llama3.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    fields = byte_level_fields(llama3, "llama-bpe", bos="<|begin_of_text|>", eos="<|eot_id|>")
    write(out / "llama3", llama3, chat_templates.LLAMA3, fields, bos_token=bos[0], eos_token="<|eot_id|>")

    for name, template in (("qwen25", chat_templates.QWEN25), ("qwen3", chat_templates.QWEN3)):
        qwen = byte_level(split(QWEN_PATTERN), 1200, normalizer=normalizers.NFC())
        qwen.add_special_tokens(special("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
        qwen.add_tokens(special("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<think>", "</think>"))
        fields = byte_level_fields(
            qwen, "qwen2", bos="<|endoftext|>", eos="<|im_end|>", padding="<|endoftext|>"
        )
        ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
        write(out / name, qwen, template, fields, **ends)

    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    sp = sentencepiece_model(out / "llama2")
    fields = sentencepiece_fields(sp, True)
    write(out / "llama2", from_sentencepiece(sp, "legacy"), chat_templates.LLAMA2, fields, sp=sp, **ends)
    write(
        out / "mistral", from_sentencepiece(sp, "first"), chat_templates.MISTRAL, system=False, sp=sp, **ends
    )

    sp = sentencepiece_model(out / "mistral_v3", control_symbols=["[INST]", "[/INST]"])
    mistral = from_sentencepiece(sp, "first")
    write(out / "mistral_v3", mistral, chat_templates.MISTRAL_V3, system=False, sp=sp, **ends)

    sp = sentencepiece_model(
        out / "gemma", add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>",
        eos_piece="<eos>", bos_piece="<bos>", control_symbols=["<start_of_turn>", "<end_of_turn>"],
        user_defined_symbols=USER_DEFINED,
    )  # fmt: skip
    gemma = from_sentencepiece(sp, "gemma")
    gemma.add_tokens(special(*USER_DEFINED))
    ends = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    fields = sentencepiece_fields(sp, False)
    write(out / "gemma", gemma, chat_templates.GEMMA, fields, system=False, sp=sp, **ends)

    (out / "texts.json").write_text(json.dumps({"texts": TEXTS, "system": SYSTEM}), "utf-8")


TEXTS = texts(2200)
if __name__ == "__main__":
    main(Path(sys.argv[1]))
