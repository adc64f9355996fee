"""Shapes of published models that configs name, so that a run can be planned where they are not."""

from introspection.models.config import ModelConfig, RopeScaling

PUBLISHED = {
    "Qwen3-8B": ModelConfig(
        151_936, 4096, 36, 32, 8, 128, 12_288, 40_960, 1e6, tied_head=False, qk_norm=True
    ),
    "Llama-3.1-8B-Instruct": ModelConfig(
        128_256, 4096, 32, 32, 8, 128, 14_336, 131_072, 500_000.0, 1e-5, tied_head=False,
        rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8192),
    ),
}  # fmt: skip
