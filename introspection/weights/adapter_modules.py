"""Which modules an adapter_config.json adapts, and with which rank and scale, by PEFT's own rules.

`target_modules` and `exclude_modules` are lists of names or one regular expression, and the keys of
`rank_pattern` and `alpha_pattern` are regular expressions that match the end of a module's name at a dot
(`check_target_module_exists` and `get_pattern_key` in PEFT's source).
"""

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from introspection.errors import InputError, brief
from introspection.models.config import PROJECTIONS
from introspection.weights.tensor_names import module_of_layer

_ALL_LINEAR = "all-linear"  # every projection; not the head
_MATCH_SECONDS = 5
# A stranger's regular expression can take forever, and nothing in Python stops it: it runs in a process of
# its own. Standard input: pairs of a function of `re` and an expression, and names; standard output: whether
# each expression matches each name.
_MATCHER = """
import json, re, sys
questions, names = json.load(sys.stdin)
try:
    print(json.dumps([[bool(getattr(re, how)(what, name)) for name in names] for how, what in questions]))
except (re.error, OverflowError, RecursionError, MemoryError) as error:
    sys.exit(str(error))
"""


@dataclasses.dataclass(frozen=True)
class Adapted:
    """One module's adapter: `W + alpha / rank * A B`."""

    rank: int
    alpha: float


def adapted_modules(fields: Mapping[str, Any], layers: int, source: str) -> dict[str, Adapted]:
    """The projections that a config adapts, by their names in the base, "model.layers.0.self_attn.q_proj".

    The fields are those that `check_adapter_fields` accepts; without `target_modules` all projections are
    adapted. `source` starts an error message.

    Raises:
      InputError: a regular expression can't be read or takes too long.
    """
    layer_of = {module_of_layer(part, layer): layer for layer in range(layers) for part in PROJECTIONS}
    ranks, alphas = fields.get("rank_pattern") or {}, fields.get("alpha_pattern") or {}
    patterns = fields.get("layers_pattern") or []
    in_layer = [
        rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\."
        for pattern in ([patterns] if isinstance(patterns, str) else patterns)
    ]
    at_end = {key: rf"(.*\.)?({key})$" for key in (*ranks, *alphas)}
    targets, excluded = fields.get("target_modules"), fields.get("exclude_modules") or []
    if isinstance(targets, str) and targets.lower() == _ALL_LINEAR:
        targets = None
    whole = [given for given in (targets, excluded) if isinstance(given, str)]
    matches = _matches(
        [*(("fullmatch", given) for given in whole), *(("match", p) for p in (*at_end.values(), *in_layer))],
        list(layer_of),
        source,
    )

    def named(module: str, given: str | Sequence[str]) -> bool:
        if isinstance(given, str):
            return module in matches["fullmatch", given]
        return not _endings(module).isdisjoint(given)

    def of(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
        return next((v for key, v in pattern.items() if module in matches["match", at_end[key]]), default)

    chosen = fields.get("layers_to_transform")
    chosen = [chosen] if isinstance(chosen, int) else chosen
    found = {}
    for module, layer in layer_of.items():
        if (targets is not None and not named(module, targets)) or named(module, excluded):
            continue
        # A module that is named in full is adapted whatever its layer.
        if chosen and not isinstance(targets, str) and module not in (targets or ()):
            numbered = not in_layer or any(module in matches["match", pattern] for pattern in in_layer)
            if not numbered or layer not in chosen:
                continue
        rank, alpha = of(ranks, module, fields["r"]), float(of(alphas, module, fields["lora_alpha"]))
        # rsLoRA's scale is alpha / sqrt(rank).
        found[module] = Adapted(rank, alpha * math.sqrt(rank) if fields.get("use_rslora") else alpha)
    return found


def _endings(module: str) -> set[str]:
    """A name and its endings after each dot."""
    parts = module.split(".")
    return {".".join(parts[start:]) for start in range(len(parts))}


def _matches(
    questions: Iterable[tuple[str, str]], names: list[str], source: str
) -> dict[tuple[str, str], set[str]]:
    """For each function of `re` and expression, the names that match it."""
    asked = list(dict.fromkeys(questions))
    if not asked:
        return {}
    try:
        answered = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _MATCHER],
            input=json.dumps([asked, names]),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=_MATCH_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{source}: its patterns take longer than {_MATCH_SECONDS} s to match: write plain module names"
        ) from error
    if answered.returncode:
        reason = brief((answered.stderr.strip().splitlines() or ["it ended early"])[-1])
        raise InputError(f"{source}: a pattern is not a regular expression: {reason}")
    rows = json.loads(answered.stdout)
    return {
        question: {name for name, matched in zip(names, row, strict=True) if matched}
        for question, row in zip(asked, rows, strict=True)
    }
