"""Log-likelihoods of mixed requests as lm-evaluation-harness computes them, on tiny random models.

Runs in the peers' environment: `python harness.py FOLDER`, where FOLDER holds an empty folder for every
family that is wanted. Writes there the model to `model`, and `requests.json`: a list of requests with their
kind, the token ids of context and continuation as HFLM encodes them, the log-likelihood (nats) and whether
greedy decoding would say the continuation.
"""

import json
import random
import sys
from pathlib import Path

import torch
from families import families, randomize
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerFast

BATCH_SIZE = 7  # divides no number of requests, so that batches are mixed
VOCABULARY = 420  # of which 256 are bytes
END = "<|endoftext|>"
TEXT = """the capital of a country is often its largest city but not always there are seas and rivers between
my teacher says it is Paris I think it is Oslo although nobody asked in 1789 or 2026 gold has the symbol"""
WORDS = TEXT.split()
UNICODE = (
    "naïve café",
    "Привет, мир",
    "東京は日本の首都",
    "مرحبا",
    "👩‍👩‍👧 family",
    "e\u0301 ≠ é",
    "½ + ½ = 1",
    "日\n本\t語",
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS), *UNICODE] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)


def text_requests(rng: random.Random) -> list[tuple[str, str, str]]:
    """(kind, context, continuation) of 180 requests."""

    def words(fewest: int, most: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(fewest, most)))

    # Lengths of a kind are alike, since every shape is compiled for itself.
    requests = [("short", words(1, 4), " " + words(1, 1)) for _ in range(35)]
    requests += [("trailing space", words(2, 6) + " ", words(1, 2)) for _ in range(10)]
    requests += [("long", words(170, 190), " " + words(1, 2)) for _ in range(15)]
    requests += [("long continuation", words(17, 20), " " + words(36, 44)) for _ in range(15)]
    requests += [("empty", "", words(1, 5)) for _ in range(18)]
    # The end token is the prefix of an empty context: a continuation that begins with it lends it.
    requests += [("empty", "", END + words(1, 5)) for _ in range(2)]
    for _ in range(15):
        context = words(18, 22)
        requests += [("shared", context, " " + words(1, most)) for most in (1, 1, 3, 8)]
    for text in UNICODE:
        requests += [("unicode", text, " " + rng.choice(UNICODE)), ("unicode", words(2, 9), text)]
        requests.append(("unicode", text + " " + text, " " + words(1, 2)))
    requests.append(("characters", "x", "y"))
    assert len(requests) == 180, len(requests)
    return requests


def greedy_requests(model: HFLM, rng: random.Random, count: int) -> list[tuple[str, str, str]]:
    """Continuations that the model itself says; the text is kept only if it is read as the same tokens."""
    requests = []
    while len(requests) < count:
        context = " ".join(rng.choices(WORDS, k=rng.randint(3, 12)))
        tokens = torch.tensor([model.tok_encode(context)])
        said = model.model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=rng.randint(1, 4),
            do_sample=False,
        )[0, tokens.shape[1] :].tolist()
        continuation = model.tokenizer.decode(said)
        if model.tok_encode(context + continuation) == tokens[0].tolist() + said:
            requests.append(("greedy", context, continuation))
    return requests


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    tokenizer = train_tokenizer()
    for family in sorted(folder.iterdir()):
        answer(family, families()[family.name], tokenizer)


def write_model(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> str:
    """Writes a random model of the family, and returns its path."""
    config.vocab_size, config.eos_token_id = len(tokenizer), tokenizer.eos_token_id
    config.max_position_embeddings = 1024
    made = AutoModelForCausalLM.from_config(config).float().eval()
    randomize(made, torch.Generator().manual_seed(0))
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def answer(folder: Path, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes a random model of the family, and what HFLM answers with it."""
    path = write_model(folder / "model", config, tokenizer)
    # Eager, since the fused attentions have no soft-caps.
    model = HFLM(
        pretrained=path,
        tokenizer=path,
        device="cpu",
        dtype="float32",
        batch_size=BATCH_SIZE,
        attn_implementation="eager",
    )
    encoded: list[tuple] = []
    score_tokens = model._loglikelihood_tokens

    def record(requests, **options):
        encoded.extend(requests)
        return score_tokens(requests, **options)

    model._loglikelihood_tokens = record
    rng = random.Random(0)
    requests = text_requests(rng) + greedy_requests(model, rng, 20)
    rng.shuffle(requests)
    instances = [
        Instance("loglikelihood", doc={}, arguments=(context, continuation), idx=0)
        for _, context, continuation in requests
    ]
    answers = model.loglikelihood(instances, disable_tqdm=True)
    lines = [
        {
            "kind": kind,
            "context": list(context),
            "continuation": list(said),
            "logprob": logprob,
            "greedy": greedy,
        }
        for (kind, _, _), (_, context, said), (logprob, greedy) in zip(
            requests, encoded, answers, strict=True
        )
    ]
    (folder / "requests.json").write_text(json.dumps(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
