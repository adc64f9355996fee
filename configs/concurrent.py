"""Post-training beside explanation training: supervised, by preferences (DPO), by rewards (policy gradient).

    python -m experiments.sweep --config=configs/concurrent.py --workdir=runs/concurrent
    python -m experiments.sweep --config=configs/concurrent.py --workdir=runs/concurrent --summarize

Three bases of the organism study, two seeds. Each objective makes half of the held-out facts less or more
sycophantic while labels of the initial model are trained on other facts; do explanations of the shifted facts
follow? An arm is named by its objective and direction (`dpo_less`); for the lesser one, variants train the
shift alone, before or after the explanations, with refreshed labels, with another weight, or in every fourth
step; the greater one has a control of its own recipe, whose labels are shuffled. Each run's page shows
behaviour and explanations by step, of shifted and unshifted facts apart.

`:organism` is the default: a point of its main part took 12 to 15 minutes of one core; results:
experiments/results.md. `:tiny` is a smoke test of minutes, whose numbers are no evidence. The settings of
DPO and of the policy gradient are their papers'; that behaviour moves with them was checked, by a rule that
sees no gap (experiments/notebook.md). `:refusal` is SmolLM2, first taught to refuse by `:taught`:

    python -m experiments.run --config=configs/concurrent.py:taught --workdir=runs/taught \\
        --config.task.data=PATH/TO/DATA
    python -m experiments.run --config=configs/concurrent.py:refusal --workdir=runs/concurrent_refusal \\
        --config.task.data=PATH/TO/DATA --config.initial=runs/taught:taught

`:tiny_taught` and `:tiny_refusal` are these on the sample of 38 requests, smoke tests. `:qwen3_8b` is the
refusal form for a pod, as configs/refusal.py; Qwen3-8B refuses without being taught. It has not been run, nor
has `:refusal` on published data. Of the sweep's other parts, results.md says which points have run.
"""

from ml_collections import ConfigDict

from configs import organism, quickstart, refusal
from introspection.runs.config import arm as default_arm

OBJECTIVES = {"supervised": "supervised", "dpo": "dpo", "reward": "policy_gradient"}
SYCOPHANCY = {"less": "less_sycophantic", "more": "more_sycophantic"}
REFUSAL = {"less": "refuse_less", "more": "refuse_more"}
WEIGHTS = {"light": 0.25, "heavy": 4.0}
REFUSING = {
    "taught": "smollm2",
    "refusal": "smollm2",
    "tiny_taught": "tiny",
    "tiny_refusal": "tiny",
    "qwen3_8b": "qwen3_8b",
}  # each with its argument of configs/refusal.py
ARGUMENTS = ("", "organism", "tiny", *REFUSING)


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ARGUMENTS:
        raise ValueError(f"concurrent takes one of {', '.join(ARGUMENTS[1:])}, not {argument!r}")
    if argument in REFUSING:
        return refusing(argument)
    config = quickstart.get_config("tiny" if argument == "tiny" else "")
    config.name = f"concurrent-{argument or 'organism'}"
    config.seeds = (10, 11)
    learning_rate = config.arms.kl.learning_rate
    recipes = {name: {} for name in ("kl", "shuffled")}
    recipes["shuffled"]["shuffle_labels"] = True
    shifts = shifts_of(SYCOPHANCY)
    recipes |= {name: dict(shift=shift) for name, shift in shifts.items()}
    # Labels without content beside the same shift: what the shift does to explanations by itself.
    recipes |= {
        f"shuffled_{name}": dict(shift=shift, shuffle_labels=True)
        for name, shift in shifts.items()
        if name.endswith("_more")
    }
    for objective in OBJECTIVES:
        name, shift = f"{objective}_less", shifts[f"{objective}_less"]
        for order in ("alone", "before", "after"):
            recipes[f"{name}_{order}"] = dict(shift=shift | dict(order=order))
        recipes[f"{name}_refreshed"] = dict(shift=shift, refresh_steps=config.train.evaluation_steps)
        for how, weight in WEIGHTS.items():
            recipes[f"{name}_{how}"] = dict(shift=shift | dict(weight=weight))
        recipes[f"{name}_every4"] = dict(shift=shift | dict(every=4))
    config.arms = arms(recipes, learning_rate)
    config.run_arms = ("kl", "shuffled", *shifts)
    return config


def shifts_of(kinds: dict[str, str]) -> dict[str, dict]:
    """The shift of each objective and direction, by the arm's name."""
    return {
        f"{name}_{direction}": dict(kind=kind, objective=objective)
        for name, objective in OBJECTIVES.items()
        for direction, kind in kinds.items()
    }


def arms(recipes: dict[str, dict], learning_rate: float) -> ConfigDict:
    made = {
        name: default_arm(**{"learning_rate": learning_rate, **changes}) for name, changes in recipes.items()
    }
    return ConfigDict(made)


def refusing(argument: str) -> ConfigDict:
    """Refusals of a pretrained model: refuse more and less."""
    config = refusal.get_config(REFUSING[argument])
    config.name = f"concurrent-{argument}"
    learning_rate = config.arms.kl.learning_rate
    recipes: dict[str, dict] = {"kl": {}, "shuffled": dict(shuffle_labels=True)}
    sampled = dict(rollout_steps=config.train.steps_per_call)
    recipes |= {name: dict(shift=shift | sampled) for name, shift in shifts_of(REFUSAL).items()}
    config.run_arms = tuple(recipes)
    # Where a cue makes a request look harmful, SmolLM2 learns to refuse; half of all requests, so that
    # whether it refuses others is not certain.
    recipes["taught"] = dict(
        shift=dict(kind="more_sycophantic", groups="all", fraction=0.5, order="alone"), learning_rate=1e-3
    )
    if argument.endswith("taught"):
        config.run_arms, config.seeds = ("taught",), (0,)
        config.train.explanation_rows, config.train.shift_rows = 1, 16
        config.train.balanced = False  # it refuses nothing yet, so no label is changed
    config.arms = arms(recipes, learning_rate)
    return config


def _beside_shuffled(*names: str) -> tuple[str, ...]:
    """Arms, each with the one of its recipe whose labels are shuffled."""
    return (*names, *(f"shuffled_{name}" for name in names))


def sweep(add, argument: str = "") -> None:
    """One factor at a time, over three bases."""
    if argument not in ("", "organism"):
        add({})
        return
    config = get_config()
    main, varied = config.run_arms, [name for name in config.arms if name not in config.run_arms]
    parts = {"main": main}
    parts |= {kind: tuple(name for name in varied if name.startswith(kind)) for kind in OBJECTIVES}
    parts["controls"] = _beside_shuffled("supervised_more", "dpo_more")
    parts["reward_controls"] = _beside_shuffled("reward_more")
    for part, chosen in parts.items():
        for point in organism.bases(part, chosen, "main", chosen=organism.BASES[:3]):
            add(point)
