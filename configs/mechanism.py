"""Mechanism: do behaviour and its explanation use the same parts of a model, and does that predict coupling?

    python -m experiments.patch --config=configs/mechanism.py --workdir=runs/mechanism

Trains the arms, unless the workdir is a finished run of them, then patches activations between the runs with
and without the cue (`introspection/patching`), before and after training, and writes `patching.json` and
`patching.html`. Arms of one base stand beside each other:

| arm | purpose |
|---|---|
| `kl` | the paper's |
| `no_kl` | uncoupled: behaviour drifts away from what is explained |
| `shuffled` | labels without content: nothing to explain by |
| `foreign_kl` | another base, trained on the same labels: its own behaviour is not what they say |

`:organism` (the default) is the quickstart's base: two seeds an arm, and its neighbour as the foreign model.
Three bases with two seeds each, and one report a base:

    python -m experiments.sweep --config=configs/mechanism.py --workdir=runs/mechanism_bases
    for point in runs/mechanism_bases/points/mech*; do python -m experiments.patch --workdir=$point; done

`--config.patching.against=weaker_cue` takes the same question with a cue that changes nothing for the other
run, instead of none: trained explainers say nothing sensible of a prompt without a cue.

`:smollm2` (first `python -m experiments.fetch --model=smollm2`) has the arms of `configs/smollm2.py` without
a foreign model. `:qwen3_8b` and `:llama31_8b` are those of `configs/hint_mmlu.py`, for a pod: they have not
been run. A base takes about 7 minutes of one core to train and 40 s to patch; no sharing of parts was shown
(experiments/results.md). `:tiny` is a smoke test; its numbers are no evidence.
"""

from ml_collections import ConfigDict

from configs import aita, hint_mmlu, organism, smollm2

ARMS = ("kl", "no_kl", "shuffled", "foreign_kl")
BASES = organism.BASES[:3]


def get_config(argument: str = "organism") -> ConfigDict:
    known = ("organism", "smollm2", "tiny", *aita.PRETRAINED)
    if argument not in known:
        raise ValueError(f"mechanism takes one of {', '.join(known)}, not {argument!r}")
    if argument in aita.PRETRAINED:
        config = hint_mmlu.get_config(argument)
    elif argument == "smollm2":
        config = smollm2.get_config()
    else:
        config = organism.get_config("tiny" if argument == "tiny" else "")
        config.part, config.base = "", ""  # of no study
        config.seeds = (0, 1)
        config.arms = ConfigDict({name: config.arms[name] for name in ARMS})
        config.run_arms = ARMS
    config.name = f"mechanism-{argument}"
    if config.tiny:
        config.patching.test_items, config.patching.draws = 8, 2
    return config


def sweep(add) -> None:
    """Three bases, each with its neighbour in the ring of the study's bases; two seeds each."""
    for point in organism.bases("mechanism", ARMS, chosen=BASES):
        add({**point, "part": "", "base": ""})
