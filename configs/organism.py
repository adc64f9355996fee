"""The organism study: eight bases, every arm of the paper that an organism can have, a second world.

    python -m experiments.sweep --config=configs/organism.py --workdir=runs/organism --dry-run
    python -m experiments.sweep --config=configs/organism.py --workdir=runs/organism
    python -m experiments.sweep --config=configs/organism.py --workdir=runs/organism --summarize

The argument chooses parts of it: `:main` is the main table, `:tiny` the same path in minutes (its numbers are
no evidence). Procedure, claims and every setting tried: experiments/README.md.

Expected time on 2 cores, one process each: a base 2.5 minutes (kept in the cache), an arm of three seeds 1.5
minutes; the main table about 40 minutes beside the bases; all 54 points about 6 hours, resumable. A point
leaves about 0.5 GB. Expected result: no coupling in any of the eight bases, a tracking of drift that
labels without content give as well, and a gap above 0 beside one shift, a source that becomes reliable
(README.md).
"""

from ml_collections import ConfigDict

from configs import quickstart

# The other base explains this one, so the last one's neighbour is the first.
BASES = (*(("llama", seed) for seed in range(6)), ("gemma", 6), ("gemma", 7))
MAIN = ("kl", "no_kl", "noise30", "shuffled", "shift_less_held_out", "foreign_kl")
RATES = ("lr_low", "lr_high", "foreign_lr_high", "noise15", "noise45")
SHIFTS = (
    "shift_less_all",
    "shift_more_held_out",
    "shift_more_all",
    "shift_facts_held_out",
    "shift_facts_all",
    "shift_source_held_out",
    "shift_source_all",
    "sequential",
    "refreshed",
)
KINDS = {
    "less": "less_sycophantic",
    "more": "more_sycophantic",
    "facts": "new_facts",
    "source": "source_reliability",
}


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "tiny", *PARTS):
        raise ValueError(f"organism takes no argument or one of tiny, {', '.join(PARTS)}, not {argument!r}")
    config = quickstart.get_config("tiny" if argument == "tiny" else "")
    config.name = "organism" + (f"-{argument}" if argument else "")
    config.part = "main"  # results are pooled over bases within a part of the study
    config.base = "llama-0"  # the base's name there
    config.seeds = (10, 11, 12)
    config.pretrain.checkpoint_steps = 500  # also the steps that "pretrain@STEP" can name
    if argument != "tiny":
        config.task.train_facts, config.task.validation_facts, config.task.test_facts = 1200, 147, 750
        config.task.held_out_entities = 22  # with all their facts, about 150 of the 750
        config.task.repeats = 1
        config.evaluation.validation_items = 294
        # Steps and rate: lowest validation explanation loss with behaviour kept (experiments/README.md).
        config.train.steps = 400
        config.train.evaluation_steps = 200
        config.train.checkpoint_steps = 200
    config.foreign = "neighbor"
    config.arms = arms(learning_rate=2.5e-4)
    config.run_arms = MAIN
    return config


def arms(learning_rate: float) -> ConfigDict:
    """Every arm of the study. Each differs from `kl` in what its name says."""

    def arm(shift: dict | None = None, **changes) -> ConfigDict:
        return quickstart.arm(shift, **{"learning_rate": learning_rate, **changes})

    recipes = {
        "kl": {},
        "no_kl": dict(kl_weight=0.0),
        "lr_low": dict(learning_rate=learning_rate / 4),
        "lr_high": dict(learning_rate=learning_rate * 4),
        "noise15": dict(label_noise=0.15),
        "noise30": dict(label_noise=0.30),
        "noise45": dict(label_noise=0.45),
        "shuffled": dict(shuffle_labels=True),
        "refreshed": dict(refresh_labels=True),
        "sequential": dict(shift=dict(kind="less_sycophantic", order="after")),
    }
    for name, kind in KINDS.items():
        for groups in ("held_out", "all"):
            recipes[f"shift_{name}_{groups}"] = dict(shift=dict(kind=kind, groups=groups))
    for name in ("kl", "no_kl", "lr_high", "noise30", "shift_less_held_out"):
        recipes[f"foreign_{name}"] = {**recipes[name], "foreign_to": name}
    return ConfigDict({name: arm(**changes) for name, changes in recipes.items()})


def bases(points: str, arms: tuple[str, ...], part: str = "", chosen=BASES, **fields) -> list[dict]:
    """One point a base, with its neighbour in the ring of all bases; arms of one part are compared."""
    found = []
    for architecture, seed in chosen:
        other, other_seed = BASES[(BASES.index((architecture, seed)) + 1) % len(BASES)]
        found.append(
            {
                "point": f"{points}-{architecture}-{seed}",
                "part": part or points,
                "base": f"{architecture}-{seed}",
                "architecture": architecture,
                "pretrain.seed": seed,
                "neighbor.architecture": other,
                "neighbor.seed": other_seed,
                "run_arms": arms,
                **fields,
            }
        )
    return found


def explored(points: str, **fields) -> list[dict]:
    """Exploratory points: three bases under another setting, the arm `kl` and its foreign explainer."""
    return bases(points, ("kl", "foreign_kl"), chosen=BASES[:3], **fields)


def width(size: int) -> dict:
    return {"model.width": size, "model.mlp_width": 3 * size, "model.head_dim": size // 4}


def rank(size: int) -> dict:
    return {"lora.rank": size, "lora.alpha": float(size)}


# Pretraining without other speakers' explanations: their rows become hinted ones.
UNEXPLAINED = {"pretrain.mixture.explained": 0.0, "pretrain.mixture.hinted": 0.75}
PARTS = {
    "main": bases("main", MAIN),
    "rates": bases("rates", RATES, "main"),
    "shifts": bases("shifts", SHIFTS, "main"),
    # The labels are those of a base that had half of its pretraining.
    "earlier": bases("earlier", ("kl",), label_teacher="pretrain@1000"),
    "second_world": bases(
        "second_world", MAIN, chosen=BASES[:4], **{"task.name": "invented_world", "task.cue_kinds": ()}
    ),
    "explore": [
        *explored("size-32", **width(32)),
        *explored("size-128", **width(128)),
        *explored("mixture-unexplained", **UNEXPLAINED),
        *explored("phrasings-1", **{"task.phrasings": 1}),
        *explored("rank-4", **rank(4)),
        *explored("rank-32", **rank(32)),
    ],
}


def sweep(add, argument: str = "") -> None:
    if argument == "tiny":
        points = bases("main", MAIN, chosen=BASES[5:7])
    else:
        points = [point for name in ([argument] if argument else PARTS) for point in PARTS[name]]
    for point in points:
        add(point)
