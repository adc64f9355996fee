"""LoRA's rank and the learning rate jointly: is it rank or the amount of training that couples?

    python -m experiments.sweep --config=configs/lora_rank.py --workdir=runs/lora_rank
    python -m experiments.sweep --config=configs/lora_rank.py --workdir=runs/lora_rank --summarize
    python -m experiments.sweep --config=configs/lora_rank.py:rates --workdir=runs/lora_rank_rates
    python -m experiments.sweep --config=configs/lora_rank.py:chosen --workdir=runs/lora_rank_chosen

Asked: gap minus the reference emitters' at ranks 2 to 96 and with all parameters, each at four rates;
updates are scaled by alpha / rank, with alpha equal to the rank, or fixed, so that the scale falls as the
rank rises. The organism is 64 wide, so adapters of rank 64 can move a matrix anywhere; 96 is where the
paper's readers saw coupling begin [S]. Then, at rank 32: adapters in the lower or upper half of the layers,
in attention or in the MLPs. Three bases, two seeds; `:tiny` is a smoke test. A point of five arms took 7 to
18 minutes of one core; one base has run (experiments/results.md), without rank 96 at a fixed alpha.

There, at full training's rate, adapters hardly learned. The organism's pretraining never says the words of an
explanation, so that their rows of the head are all but equal and a frozen head can't tell them apart; and
adapters want other rates. So in `:rates` and `:chosen` the head has an adapter, too: `:rates` trains one seed
of one base at four rates a rank, with two test people and no gap, and `:chosen` compares three bases at the
rate of each rank with the lowest validation explanation loss. `:qwen3_8b` and `:llama31_8b` run one model on
Hint-MMLU, without full fine-tuning; they have not been run.
"""

from ml_collections import ConfigDict

from configs import aita, organism
from introspection.models.config import HEAD, PROJECTIONS

NAME = "lora_rank"
TIMES = {"kl": 1.0, "lr_low": 0.25, "lr_high": 4.0, "lr_higher": 16.0}  # the rate of `kl`
ARMS = (*TIMES, "shuffled")
FIXED_ALPHA = 8.0
# (rank, alpha) by part; 0 trains all parameters.
PARTS = {
    "full": (0, FIXED_ALPHA),
    **{f"rank-{rank}": (rank, float(rank)) for rank in (2, 8, 32, 64, 96)},
    **{f"rank-{rank}-alpha-8": (rank, FIXED_ALPHA) for rank in (2, 32, 96)},  # at rank 8 both are the same
}

# Arms with adapters of the head, too, by argument: times the rate of `kl`, or of what `:rates` chose for each
# part (experiments/notebook.md, 2026-12-01).
SEARCHES = {
    "rates": {"kl": 1.0, "lr_double": 2.0, "lr_fourfold": 4.0, "lr_eightfold": 8.0},
    "chosen": {"kl": 1.0},
}
CHOSEN = {"full": 1.0, "rank-64": 2.0, "rank-32": 2.0, "rank-8": 4.0, "rank-2": 8.0}

# Where the adapters are, at one rank and rate.
PLACES = {
    "lower": {"lora.layers": "lower"},
    "upper": {"lora.layers": "upper"},
    "attention": {"lora.targets": ("query", "key", "value", "output")},
    "mlp": {"lora.targets": ("gate", "up", "down")},
}
PLACED_RANK = 32


def get_config(argument: str = "organism") -> ConfigDict:
    known = (*organism.FORKS, *SEARCHES)
    if argument not in known:
        raise ValueError(f"{NAME} takes one of {', '.join(known)}, not {argument!r}")
    times = SEARCHES.get(argument, TIMES)
    recipes: dict[str, dict] = {arm: {} for arm in times}
    if argument != "rates":
        recipes["shuffled"] = {"shuffle_labels": True}
    config = organism.fork(NAME, "organism" if argument in SEARCHES else argument, recipes)
    rate = config.arms.kl.learning_rate
    for arm in times:
        config.arms[arm].learning_rate = times[arm] * rate
    if argument in SEARCHES:
        config.name = f"{NAME}-{argument}"
    if argument == "rates":
        config.seeds, config.task.test_entities = (10,), 2
    return config


def sweep(add, argument: str = "organism") -> None:
    if argument in SEARCHES:
        sweep_rates(add, argument)
        return
    parts = PARTS
    if argument == "tiny":
        parts = {"rank-2": PARTS["rank-2"]}  # and one point of every place
    if argument in aita.PRETRAINED:
        parts = {name: part for name, part in PARTS.items() if part[0]}
    for name, (rank, alpha) in parts.items():
        fields = {"lora.rank": rank, "lora.alpha": alpha, "foreign": "none"}
        for point in organism.forked(name, argument, ARMS, **fields):
            add(point)
    rank = {"lora.rank": PLACED_RANK, "lora.alpha": float(PLACED_RANK), "foreign": "none"}
    for place, fields in PLACES.items():
        name = f"rank-{PLACED_RANK}-{place}"
        for point in organism.forked(name, argument, ("kl", "shuffled"), **rank, **fields):
            add(point)


def sweep_rates(add, argument: str) -> None:
    """The rate of each part, alpha equal to the rank: found on one base, or as found on three."""
    rate, on_three = get_config(argument).arms.kl.learning_rate, argument == "chosen"
    arms = (*SEARCHES[argument], *(["shuffled"] if on_three else []))
    for name, times in CHOSEN.items():
        rank, alpha = PARTS[name]
        fields = {"lora.rank": rank, "lora.alpha": alpha, "foreign": "none"}
        if rank:
            fields["lora.targets"] = (*PROJECTIONS, HEAD)
        if on_three:
            fields |= {f"arms.{arm}.learning_rate": times * rate for arm in arms}
        bases = organism.BASES[: 3 if on_three else 1]
        for point in organism.bases(name, arms, chosen=bases, **fields):
            add(point)
