"""Operations of a program's matrix products, counted from its jaxpr with the lengths of its loops.

XLA's own cost analysis counts a loop's body once, whatever the number of layers. What the backward pass
computes again counts, as it is computed; what nothing uses (gradients of frozen matrices) does not, since XLA
leaves it out. `cond` counts its larger branch.
"""

import math
from typing import Any

import jax
from jax.interpreters import partial_eval


def matrix_flops(jaxpr: Any, steps: int = 1) -> float:
    """Multiplications and additions of all devices together.

    Args:
      jaxpr: a jaxpr, closed or not.
      steps: how often the body of a `while_loop` runs, which a jaxpr does not say.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    used, _ = partial_eval.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    return _flops(used, steps)


def _flops(jaxpr: Any, steps: int) -> float:
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    return sum((_equation_flops(equation, steps) for equation in jaxpr.eqns), 0.0)


def _equation_flops(equation: Any, steps: int) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        lengths = [equation.invars[0].aval.shape[axis] for axis in contracted]
        return 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(lengths)
    if name == "cond":
        return max(_flops(branch, steps) for branch in params["branches"])
    inner = sum((_flops(one, steps) for one in _inner(params)), 0.0)
    if name == "scan":
        return inner * params["length"]
    if name == "while":
        return inner * steps
    if name == "shard_map":  # its body is what one device does
        return inner * params["mesh"].size
    if name == "pallas_call":  # its body is one block; of causal attention, half of the blocks are skipped
        return inner * math.prod(params["grid_mapping"].grid) / 2
    return inner


def _inner(params: dict[str, Any]) -> list[Any]:
    """The jaxprs inside an equation."""
    leaves = jax.tree.leaves(params, is_leaf=lambda leaf: hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr"))
    return [leaf for leaf in leaves if hasattr(leaf, "eqns") or hasattr(leaf, "jaxpr")]
