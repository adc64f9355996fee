"""Generalisation: explained on some kinds of items, asked about others.

    python -m experiments.sweep --config=configs/generalization.py --workdir=runs/generalization
    python -m experiments.sweep --config=configs/generalization.py --workdir=runs/generalization --summarize

Asked: Orig and gap on kinds of items that explanation training never saw (a cue kind, half of the
relations, a wording of the questions), beside those that it saw; the summary has the table, trained by held
out. Behaviour rows (the KL term) are of the explained items. All settings explain as many facts. Three
bases, two seeds; `:tiny` is a smoke test. All points took 35 minutes on 2 cores; results:
experiments/results.md. `:qwen3_8b` and `:llama31_8b` leave out one cue kind on Hint-MMLU; they have not been
run. Other tasks: configs/jabberwocky.py.
"""

from ml_collections import ConfigDict

from configs import aita, organism
from introspection.tasks.facts.invented_world import INVENTED_WORLD

NAME = "generalization"
RECIPES = {"kl": {}, "shuffled": dict(shuffle_labels=True), "foreign_kl": dict(foreign_to="kl")}
EXPLAINED_GROUPS = 1400  # of the 1,500 training facts of half of the relations
RELATIONS = tuple(INVENTED_WORLD.phrasings)


def get_config(argument: str = "organism") -> ConfigDict:
    config = organism.fork(NAME, argument, RECIPES)
    if argument == "organism":
        config.train.explained_groups = EXPLAINED_GROUPS
    return config


def settings(argument: str, cue_kinds: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """`config.train.explained_where` by the name of the setting."""
    without_cue = {f"without-{kind}": (f"cue_kind!={kind}",) for kind in cue_kinds}
    if argument in ("tiny", *aita.PRETRAINED):
        return dict(list(without_cue.items())[:1])
    halves = {"even": RELATIONS[::2], "odd": RELATIONS[1::2]}
    return {
        "all": (),
        **without_cue,
        **{f"{half}-relations": tuple(f"stratum={r}" for r in chosen) for half, chosen in halves.items()},
        "two-wordings": ("phrasing!=0",),
    }


def sweep(add, argument: str = "organism") -> None:
    cue_kinds = tuple(get_config(argument or "organism").task.cue_kinds)
    for name, where in settings(argument, cue_kinds).items():
        arms = tuple(RECIPES) if name == "all" else ("kl", "shuffled")
        for point in organism.forked(name, argument, arms, **{"train.explained_where": where}):
            add(point)
