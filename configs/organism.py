"""The organism study: eight bases in a closed world, with every arm of the paper that suits an organism.

    python -m experiments.sweep --config=configs/organism.py --workdir=runs/organism --dry-run
    python -m experiments.sweep --config=configs/organism.py --workdir=runs/organism
    python -m experiments.sweep --config=configs/organism.py --workdir=runs/organism --summarize

The argument chooses parts, such as `:main` or `:mixtures+baselines`; `:tiny` is a smoke test (its numbers
are no evidence). It was planned as 5 to 6 hours on 2 cores; `:many+explore` has not been run.
Procedure, claims, settings tried: experiments/notebook.md. Results: experiments/results.md.
"""

from ml_collections import ConfigDict

from configs import aita, hint_mmlu, quickstart
from introspection.runs.config import arm as default_arm

# Each base is explained by the next one; the last by the first.
BASES = (*(("llama", seed) for seed in range(6)), ("gemma", 6), ("gemma", 7))
MAIN = ("kl", "shuffled", "foreign_kl", "no_kl", "shift_less")
HALF_PRETRAINED = 2000  # steps of the checkpoint that labels `labels_earlier`
FORKS = ("organism", "tiny", *aita.PRETRAINED)  # arguments of the configs that vary one factor


def get_config(argument: str = "") -> ConfigDict:
    if argument not in ("", "tiny") and not set(argument.split("+")) <= set(PARTS):
        raise ValueError(f"organism takes tiny or parts joined by +, of {', '.join(PARTS)}, not {argument!r}")
    config = quickstart.get_config("tiny" if argument == "tiny" else "")
    config.name = "organism" + ("-tiny" if argument == "tiny" else "")
    config.part = "main"  # results are pooled over bases within a part of the study
    config.base = "llama-0"  # the base's name in the study
    config.seeds = (10, 11, 12)
    config.foreign = "neighbor"
    config.arms = arms(config.arms.kl.learning_rate, config.train.evaluation_steps)
    config.run_arms = MAIN
    return config


def arms(learning_rate: float, refresh_steps: int) -> ConfigDict:
    """Every arm of the study. Each differs from `kl` as its name says."""

    def arm(shift: dict | None = None, **changes) -> ConfigDict:
        return default_arm(shift, **{"learning_rate": learning_rate, **changes})

    recipes = {
        "kl": {},
        "no_kl": dict(kl_weight=0.0),
        "shuffled": dict(shuffle_labels=True),
        "lr_low": dict(learning_rate=learning_rate / 4),
        "lr_high": dict(learning_rate=learning_rate * 4),
        "noise15": dict(label_noise=0.15),
        "noise30": dict(label_noise=0.30),
        "noise45": dict(label_noise=0.45),
        "noise60": dict(label_noise=0.60),
        # On half of the held-out groups, like all shifts here.
        "shift_less": dict(shift=dict(kind="less_sycophantic")),
        "shift_more": dict(shift=dict(kind="more_sycophantic")),
        "shift_facts": dict(shift=dict(kind="new_facts")),
        "shift_source": dict(shift=dict(kind="source_reliability", source="friend")),
        "sequential": dict(shift=dict(kind="less_sycophantic", order="after")),
        "refreshed": dict(refresh_steps=refresh_steps),
        "labels_foreign25": dict(foreign_labels=0.25),
        "labels_foreign50": dict(foreign_labels=0.5),
        "labels_foreign75": dict(foreign_labels=0.75),
        "labels_foreign100": dict(foreign_labels=1.0),
        "labels_earlier": {},  # in points whose label_teacher is an earlier checkpoint
        "kl_other": dict(kl_groups="other"),
        "kl_both": dict(kl_groups="both"),
    }
    for name in ("kl", "shift_less", "lr_high", "noise30"):
        recipes[f"foreign_{name}"] = {**recipes[name], "foreign_to": name}
    return ConfigDict({name: arm(**changes) for name, changes in recipes.items()})


def bases(
    points: str, arms: tuple[str, ...], part: str = "", chosen=BASES, ring=BASES, step=1, **fields
) -> list[dict]:
    """One point per base, with the base `step` places on in `ring` as its neighbour; arms of one part are
    compared."""
    found = []
    for architecture, seed in chosen:
        other, other_seed = ring[(ring.index((architecture, seed)) + step) % len(ring)]
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


def fork(name: str, argument: str, recipes: dict[str, dict]) -> ConfigDict:
    """The config of an experiment that varies one factor, with the arms `recipes`: changes of the arm `kl`.

    `argument` is one of `FORKS`: two seeds of the organism, a smoke test, or an 8 B model on `hint_mmlu`.
    """
    if argument not in FORKS:
        raise ValueError(f"{name} takes one of {', '.join(FORKS)}, not {argument!r}")
    if argument in aita.PRETRAINED:
        config = hint_mmlu.get_config(argument)
        config.base = argument
    else:
        config = get_config("tiny" if argument == "tiny" else "")
        config.seeds = (10, 11)
    config.name, config.part = f"{name}-{argument}", name
    rate = config.arms.kl.learning_rate
    config.arms = ConfigDict(
        {arm: default_arm(**{"learning_rate": rate, **changes}) for arm, changes in recipes.items()}
    )
    config.run_arms = ran(argument, config.arms)
    return config


def ran(argument: str, arms) -> tuple[str, ...]:
    """The arms that run by default: beside an 8 B model there is no other until config.foreign names one."""
    others = ("foreign_", "labels_") if argument in aita.PRETRAINED else ()
    return tuple(arm for arm in arms if not arm.startswith(others))


def forked(points: str, argument: str, arms, part: str = "", chosen=BASES[:3], **fields) -> list[dict]:
    """One setting of `fork`: a point per base (one base in `:tiny`), or one point of an 8 B model."""
    if argument in aita.PRETRAINED:
        return [{"point": points, "part": part or points, "run_arms": ran(argument, arms), **fields}]
    return bases(points, tuple(arms), part, chosen[:1] if argument == "tiny" else chosen, **fields)


def explored(points: str, **fields) -> list[dict]:
    """Exploratory points: three bases under another setting."""
    return bases(points, ("kl", "shuffled", "foreign_kl"), chosen=BASES[:3], **fields)


def width(size: int) -> dict:
    return {"model.width": size, "model.mlp_width": 3 * size, "model.head_dim": size // 4}


def explained(groups: int, **fields) -> list[dict]:
    """Points with another number of explained facts than the main part's 2,400."""
    return bases(
        f"explained-{groups}", ("kl",), **{"train.explained_groups": groups, "foreign": "none", **fields}
    )


# In the order in which they run: what the claims need comes first.
PARTS = {
    "main": bases("main", MAIN),
    "rates": bases("rates", ("lr_high", "noise30", "lr_low"), "main"),
    "labels": bases("labels", ("labels_foreign100",), "main"),
    "source": bases("source", ("shift_source",), "main"),
    "few": [*explained(600), *explained(150)],
    "noise": bases("noise", ("noise60", "noise15", "noise45"), "main"),
    "shifts": bases("shifts", ("shift_more", "shift_facts"), "main"),
    "mixtures": bases("mixtures", ("labels_foreign50", "labels_foreign25", "labels_foreign75"), "main"),
    "earlier": bases(
        "earlier", ("labels_earlier",), "main", label_teacher=f"pretrain@{HALF_PRETRAINED}", foreign="none"
    ),
    "baselines": bases("baselines", ("refreshed", "sequential", "kl_other", "kl_both"), "main"),
    "second_world": bases(
        "second_world",
        MAIN,
        chosen=BASES[:4],
        **{"task.name": "second_world", "world.likelihood_ratios": ()},  # its own sources' reliability
    ),
    # Four times the facts need four times the pretraining; three bases, like the next part.
    "many": explained(
        9600,
        chosen=BASES[:3],
        **{"task.entities": 2775, "task.train_entities": 2400, "pretrain.steps": 12000},
    ),
    "explore": [
        *explored("tied-head", **{"model.tied_head": True}),
        *explored("width-32", **width(32)),
        *explored("width-128", **width(128)),
        # A hundred answers per relation: nearly every fact has its own word.
        *explored("open-answers", **{"task.answers": 100}),
        # In pretraining, speakers explain themselves about entities in no split.
        *explored(
            "explained-before",
            **{
                "task.entities": 1500,
                "pretrain.mixture.explained": 0.25,
                "pretrain.mixture.hinted": 0.5,
            },
        ),
    ],
}


def chosen_points(parts: list[str]) -> list[dict]:
    """The points of some parts, in order, without repetitions.

    Parts that are pooled with `main` need the two arms that make it askable: if `main` is not chosen, these
    run on their own.
    """
    found = []
    for name in parts:
        if "main" not in parts and PARTS[name][0]["part"] == "main":
            found += bases("reference", ("kl", "shuffled"), "main")
        found += PARTS[name]
    return list({point["point"]: point for point in found}.values())


def sweep(add, argument: str = "") -> None:
    if argument == "tiny":
        points = bases("main", MAIN, chosen=BASES[5:7])
    else:
        points = chosen_points(argument.split("+") if argument else list(PARTS))
    for point in points:
        add(point)
