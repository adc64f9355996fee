"""Operations that a model's mathematics needs: nothing computed twice, attention to the past alone."""

from introspection.models.config import ModelConfig


def useful_flops(model: ModelConfig, tokens: int, attended: float, training: bool) -> float:
    """Multiplications and additions to read some tokens, or to train on them.

    A parameter takes 2 a token to read, 2 to send a gradient back, 2 more for its own gradient (Kaplan et al.
    2020, Appendix B); a frozen base has no gradients of its parameters, and layers below `lora.from_layer`
    send none back. The embedding and the head are left out.

    Args:
      tokens: how many, without padding.
      attended: summed over the tokens, how many tokens each attends to: half of a text's length on average.
    """
    matrices = model.width * model.head_dim * 2 * (model.query_heads + model.kv_heads)
    matrices += 3 * model.width * model.mlp_width
    attention = 4.0 * model.query_heads * model.head_dim * attended
    read = tokens * 2.0 * matrices + attention
    if not training:
        return model.layers * (read + tokens * 2.0 * _adapter_parameters(model))
    if model.lora is None:
        return model.layers * 3 * read
    trained = tokens * 2.0 * (2 * matrices + 3 * _adapter_parameters(model)) + 3 * attention
    return model.lora.from_layer * read + (model.layers - model.lora.from_layer) * trained


def _adapter_parameters(model: ModelConfig) -> int:
    """Of one layer."""
    if model.lora is None:
        return 0
    heads, kv = model.query_heads * model.head_dim, model.kv_heads * model.head_dim
    sides = {
        "query": model.width + heads, "key": model.width + kv, "value": model.width + kv,
        "output": heads + model.width, "gate": model.width + model.mlp_width,
        "up": model.width + model.mlp_width, "down": model.mlp_width + model.width,
    }  # fmt: skip
    return model.lora.rank * sum(sides[name] for name in model.lora.projections)
