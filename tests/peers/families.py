"""A tiny random checkpoint of every family, and what transformers computes with it.

Runs in the peers' environment: `python families.py FOLDER`. Writes a model folder a family as
`save_pretrained` does, and `<family>.npz`: logits of a right-padded batch, logits along continuations of
prompts, each read by itself, and greedy replies.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY, GREEDY_TOKENS = 61, 64
LENGTHS = (48, 31, 17, 1)  # of the rows of the batch; windows are 7 and the original context 16
PROMPTS, CONTINUATIONS, CONTINUATION_TOKENS = (29, 11, 3), 2, 12
SIZES = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=1000.0,
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=16,
)
VISION = dict(
    **dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2),
    **dict(image_size=8, patch_size=2),
)
GEMMA3_ROPE = {
    "full_attention": dict(rope_type="linear", factor=8.0, rope_theta=5000.0),
    "sliding_attention": dict(rope_type="default", rope_theta=100.0),
}


def families() -> dict[str, PreTrainedConfig]:
    theta = dict(rope_parameters=dict(rope_type="default", rope_theta=1000.0))
    gemma = {**SIZES, "head_dim": 16, "sliding_window": 7, "query_pre_attn_scalar": 11}
    return {
        "llama2": LlamaConfig(**{**SIZES, "num_key_value_heads": 4}, rms_norm_eps=1e-5),
        "llama3": LlamaConfig(**SIZES, **theta),
        "llama31": LlamaConfig(**SIZES, rope_parameters=LLAMA3),
        "llama32": LlamaConfig(**SIZES, rope_parameters={**LLAMA3, "factor": 32.0}, tie_word_embeddings=True),
        "llama_linear": LlamaConfig(
            **SIZES, rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=1000.0)
        ),
        "smollm2": LlamaConfig(
            **{**SIZES, "hidden_size": 48, "num_attention_heads": 6}, **theta, tie_word_embeddings=True
        ),
        "mistral": MistralConfig(**SIZES, **theta, sliding_window=7),
        "mistral_v03": MistralConfig(**SIZES, **theta, sliding_window=None),
        "qwen2": Qwen2Config(**SIZES, **theta, tie_word_embeddings=True),
        "qwen2_windows": Qwen2Config(
            **SIZES, **theta, use_sliding_window=True, sliding_window=7, max_window_layers=1
        ),
        "qwen3": Qwen3Config(**SIZES, **theta, head_dim=16),
        "gemma2": Gemma2Config(
            **gemma,
            **theta,
            attn_logit_softcapping=3.0,
            final_logit_softcapping=5.0,
            tie_word_embeddings=True,
        ),
        "gemma3": Gemma3TextConfig(**{**gemma, "num_hidden_layers": 7}, rope_parameters=GEMMA3_ROPE),
        "gemma3_vision": Gemma3Config(
            text_config=dict(**{**gemma, "num_hidden_layers": 7}, rope_parameters=GEMMA3_ROPE),
            vision_config=VISION,
            mm_tokens_per_image=4,
            # Beyond the vocabulary: every token of the test is text.
            **dict.fromkeys(("image_token_index", "boi_token_index", "eoi_token_index"), VOCABULARY + 1),
        ),
    }


def randomize(model: torch.nn.Module, generator: torch.Generator) -> None:
    """Values with which every parameter counts: a fresh model's norms are 1 and its offsets 0."""
    gemma = model.config.model_type.startswith("gemma")
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(("model.norm.weight", "language_model.norm.weight")) and gemma:
            parameter.data = 4.0 + noise
        elif "norm" in name:
            parameter.data = (0.0 if gemma else 1.0) + 0.3 * noise
        elif name.endswith("bias"):
            parameter.data = noise
        elif "embed_tokens" in name or "lm_head" in name:
            # Gemma's embedding is scaled up and tied to the head: a large one would repeat the last token.
            parameter.data = (0.1 if gemma else 0.5) * noise
        else:
            parameter.data = 1.5 * noise / parameter.shape[-1] ** 0.5


@torch.no_grad()
def reference(model: torch.nn.Module, rng: np.random.Generator) -> dict[str, np.ndarray]:
    tokens = rng.integers(0, VOCABULARY, (len(LENGTHS), max(LENGTHS)))
    inside = np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]
    batch = model(torch.tensor(tokens), attention_mask=torch.tensor(inside).long()).logits.numpy()
    prompts = np.zeros((len(PROMPTS), max(PROMPTS)), np.int64)
    continuations = rng.integers(0, VOCABULARY, (len(PROMPTS), CONTINUATIONS, CONTINUATION_TOKENS))
    continued, replies = [], []
    for row, length in enumerate(PROMPTS):
        prompt = rng.integers(0, VOCABULARY, length)
        prompts[row, :length] = prompt
        for continuation in continuations[row]:
            whole = torch.tensor(np.concatenate([prompt, continuation]))[None]
            continued.append(model(whole).logits[0, length - 1 : -1].numpy())
        reply = model.generate(
            torch.tensor(prompt)[None],
            attention_mask=torch.ones((1, length), dtype=torch.long),
            max_new_tokens=GREEDY_TOKENS,
            do_sample=False,
        )
        replies.append(reply[0, length:].numpy())
    return {
        "tokens": tokens,
        "lengths": np.array(LENGTHS),
        "logits": batch,
        "prompts": prompts,
        "prompt_lengths": np.array(PROMPTS),
        "continuations": continuations,
        "continued_logits": np.stack(continued).reshape(*continuations.shape, VOCABULARY),
        "replies": np.stack(replies),
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for seed, (name, config) in enumerate(families().items()):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
        randomize(model, torch.Generator().manual_seed(seed))
        model.save_pretrained(folder / name)
        np.savez(folder / f"{name}.npz", **reference(model, np.random.default_rng(seed)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
