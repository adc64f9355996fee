"""Compares models in one process: the emitter × teacher matrix of explanations and behaviours.

    python -m experiments.compare --models=runs/quickstart@0,runs/quickstart@400 --task=invented_world \\
        --workdir=runs/compared

A model is WORKDIR[:ARM[:SEED]][@STEP] (all arms and seeds unless one is named, and the newest step), or an
external model: a Hugging Face folder, a GGUF file, BASE+ADAPTERS (a folder of PEFT adapters), or smollm2 once
`experiments.fetch` has downloaded it. Models of a run are asked its test items; external models are asked the
task's default items, or your own:

    python -m experiments.compare --models=PATH/TO/MODEL,OTHER.gguf --task=jsonl --data=questions.jsonl \\
        --workdir=runs/compared_on_mine

WORKDIR:ARM without a seed is one row, the mean over its seeds. --controls adds rows that are no models of the
diagonal, against which the models' gap to the model before training is held:

    python -m experiments.compare --models=runs/quickstart --workdir=runs/held \\
        --controls=initial,few_shot,majority,input_only,shuffled
"""

from absl import flags

from introspection.coupling.matrix_results import RECIPES
from introspection.errors import InputError
from introspection.probes.readouts import READOUT_WORDS
from introspection.runs.compare import CompareRequest, compare
from introspection.runs.inherited import DEFAULT_TASK
from introspection.runs.model_list import listed_models
from introspection.runtime.command import STARTS_AGAIN, define_place_flags, run_program
from introspection.runtime.lock import held
from introspection.runtime.storage import working_folder

flags.DEFINE_list(
    "models",
    [],
    "WORKDIR[:ARM[:SEED]][@STEP], paths, or @FILE (or FILE.txt) with one model a line; separated by commas",
)
flags.DEFINE_string(
    "task", "", f"whose test items are asked; as the models' runs if not given, else {DEFAULT_TASK}"
)
flags.DEFINE_string("data", "", "your file or folder, for tasks that read one")
flags.DEFINE_string("workdir", None, "folder of this comparison")
flags.DEFINE_integer("limit", 0, "ask at most so many items, evenly spaced; 0: all")
flags.DEFINE_string(
    "readout", "", f"how behaviour is read; as the models' runs if not given. {READOUT_WORDS}"
)
flags.DEFINE_integer(
    "reply-tokens", 0, "longest generated reply; 0: as in the models' runs, 24 for external models"
)
flags.DEFINE_integer("devices", 1, "over how many devices batches are split; -1: all")
flags.DEFINE_multi_string("set", [], "FIELD=VALUE of the task's config; may be repeated")
flags.DEFINE_list(
    "controls",
    [],
    f"rows that the models are held against: {', '.join(RECIPES)}; those that are arms are found in the "
    "models' runs, or given as RECIPE=MODEL; separated by commas",
)
flags.DEFINE_multi_string("chat", [], "FIELD=VALUE of config.chat, for external models; may be repeated")
define_place_flags()


def main(values, console) -> None:
    if not values.models or not values.workdir:
        raise InputError("give --models=A,B,... and --workdir=W")
    request = CompareRequest(
        listed_models(values.models, "--models"),
        values.task,
        values.data,
        tuple(values["set"].value),
        tuple(values.chat),
        values.limit,
        values.readout,
        values["reply-tokens"].value,
        values.devices,
        tuple(values.controls),
        values.mesh,
    )
    with working_folder(values.workdir) as workdir, held(workdir):
        report = compare(request, workdir, console)
    console.print(f"report: {report}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
