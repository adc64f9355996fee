"""The README.md of an exported model: a model card as the Hugging Face Hub reads it."""

import json
import re
from pathlib import Path

from introspection.checkpoints.names import StoredModel, stored_steps
from introspection.coupling.run_results import ArmResults, RunResults
from introspection.models.config import LoraConfig
from introspection.reports.numbers import DASH
from introspection.reports.run_files import read_results
from introspection.reports.table import Table, with_interval
from introspection.runs.config import ArmConfig, RunConfig, read_config
from introspection.runtime.json_files import read_object
from introspection.weights.pretrained import PretrainedModel
from introspection.weights.tensor_names import projection_module

_LOADING = {
    "peft": (
        "from peft import PeftModel",
        'model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("BASE"), "THIS FOLDER")',
    ),
    "transformers": ('model = AutoModelForCausalLM.from_pretrained("THIS FOLDER")',),
}


def model_card(
    name: str, found: StoredModel | PretrainedModel, base: str | None, lora: LoraConfig | None
) -> str:
    """Markdown with YAML metadata: what the model is, what it was trained on, and how its explanations did.

    Args:
      name: the model's, as the user gave it.
      base: the base model's path or name, if there is one.
      lora: the adapters, if only these are exported.

    Raises:
      InputError: the run's results can't be read.
    """
    trained = isinstance(found, StoredModel)
    library = "transformers" if lora is None else "peft"
    cached = re.search(r"models--([^/]+)--([^/]+)/snapshots/", base or "")  # in the Hub's cache
    metadata = {
        **({} if base is None else {"base_model": "/".join(cached.groups()) if cached else base}),
        "library_name": library,
        "pipeline_tag": "text-generation",
        "tags": [*([] if lora is None else ["lora"]), *(["self-explanation"] if trained else [])],
    }
    # JSON is YAML.
    lines = [
        "---",
        *(f"{key}: {json.dumps(_shown(value), ensure_ascii=False)}" for key, value in metadata.items()),
    ]
    if base is not None and not cached:
        lines += ["# The Hub accepts only a name on it, such as ORGANISATION/MODEL, as base_model."]
    lines += ["---", ""]
    lines += [f"# {_code(name)}", ""]
    facts = {} if base is None else {"base model": _code(base)}
    if lora is not None:
        modules = ", ".join(projection_module(part).rsplit(".", 1)[-1] for part in lora.targets)
        facts |= {"LoRA rank": lora.rank, "LoRA alpha": f"{lora.alpha:g}", "LoRA modules": _code(modules)}
    if isinstance(found, StoredModel):
        facts |= _training(found)
    if facts:
        lines += ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts.items()), ""]
    if isinstance(found, StoredModel):
        lines += _results(found)
    code = ["from transformers import AutoModelForCausalLM", *_LOADING[library]]
    return "\n".join([*lines, "```python", *code, "```", ""])


def _training(found: StoredModel) -> dict[str, str]:
    """What the model's run says of how it was trained."""
    trained = {
        "run and arm": f"{_code(found.workdir.resolve().name)}, {_code(found.arm)}",
        "seed": str(found.seed),
    }
    config = _config(found.workdir / "config.json")
    if config is None or found.arm not in config.arms:
        return trained | {"step": str(found.step)}
    arm = config.arms[found.arm]
    held = f"KL to {_code(config.kl_reference)}, weight {arm.kl_weight:g}" if arm.kl_weight else DASH
    trained |= {
        "config": _code(config.name),
        "step": f"{found.step} of {config.train.loop(arm).steps}",
        "started from": _started_from(arm, config),
        "task": _code(config.task["name"]),
        "trained to explain": labels_in_words(arm, config),
        "behaviour held by": held,
    }
    return trained | ({} if arm.shift.kind == "none" else {"behaviour shifted by": _code(arm.shift.kind)})


def _started_from(arm: ArmConfig, config: RunConfig) -> str:
    if arm.aligned:
        return f"{_code(config.foreign)}, distilled on the behaviour of {_code(config.initial)}"
    return _code(config.foreign if arm.foreign_to else config.initial)


def labels_in_words(arm: ArmConfig, config: RunConfig) -> str:
    """Whose behaviour an arm's labels describe, and how they were altered, in Markdown."""
    whose = f"the labels in {_code(arm.labels)}" if arm.labels else f"what {_code(config.label_teacher)} does"
    altered = [
        (arm.foreign_labels, f"{arm.foreign_labels:.0%} of the groups: what {_code(config.foreign)} does"),
        (arm.shuffle_labels, "shuffled over the items"),
        (arm.label_noise, f"{arm.label_noise:.0%} replaced by a wrong label"),
        (arm.refresh_steps, f"made again from the current model every {arm.refresh_steps} steps"),
    ]
    return "; ".join([whose, *(words for is_so, words in altered if is_so)])


def _results(found: StoredModel) -> list[str]:
    """Lines with the run's results of the model's arm, if it is the one that was measured."""
    path = found.workdir / "results.json"
    if not path.is_file() or found.step != max(stored_steps(found.store)):
        return []
    results = read_results(path)
    arm = results.arms.get(found.arm)
    return [] if arm is None else [results_table(results, arm).markdown()]


def results_table(results: RunResults, arm: ArmResults) -> Table:
    """Self, Orig and their gap, pooled over the arm's seeds."""
    rows = tuple(
        (
            name,
            with_interval(scores.exact_match, form),
            with_interval(scores.has_changed_f1, form),
            with_interval(scores.content_match, form),
        )
        for name, scores, form in (
            ("Self: match the model itself", arm.self, "percent"),
            ("Orig: match its labels' teacher", arm.orig, "percent"),
            ("gap: Self minus Orig, points", arm.gap, "points"),
        )
    )
    best = arm.references.get(arm.best_static or "")
    if best is not None:
        apart = with_interval(best.gap_difference)
        rows += ((f"gap minus that of {arm.best_static}, points", apart, DASH, DASH),)
    about = f"Explanations of held-out items ({arm.n} over all seeds), in percent, with 95% intervals"
    note = f"{results.askable.words}. A gap is never read against 0, only beside reference emitters'."
    if results.tiny:
        note = f"A tiny run: these numbers are no evidence. {note}"
    return Table(about, ("", "exact match", "has changed, F1", "content match"), rows, note)


def _config(path: Path) -> RunConfig | None:
    """A workdir's config; None if it is missing or of another version."""
    try:
        return read_config(read_object(path))
    except ValueError:  # an InputError too
        return None


def _shown(value: str | list[str]) -> str | list[str]:
    """Text without control characters, line breaks and what has no encoding."""
    if isinstance(value, list):
        return [str(_shown(one)) for one in value]
    return "".join(character if character.isprintable() else "\ufffd" for character in value)


def _code(value: object) -> str:
    """Anybody's text as Markdown shows it as it is, also in a table's cell."""
    return f"`{str(_shown(str(value))).replace('`', DASH).replace('|', chr(92) + '|')}`"
