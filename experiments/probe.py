"""Behaviour and hygiene of one task and model: a page, the same as JSON, and every item's behaviour.

    python -m experiments.probe --task=world_facts --model=smollm2
    python -m experiments.probe --task=hint_mmlu --data=sample --model=smollm2 --scan-cues
    python -m experiments.probe --task=jsonl --data=questions.jsonl --dry-run
    python -m experiments.probe --task=refusal --data=sample --model=smollm2 --find-spans

The first asks a model (named as for experiments.compare) the task's test items and writes hygiene.html,
hygiene.json and behaviors.jsonl. The second asks the same training questions with every wording of the cue,
prints how often each changes the decision, and recommends one that leaves both classes of labels. The third,
which is the default without --model, reads only the data: it lists the bad rows of your file and exits with
code 2, or prints splits, cue kinds, how x and x\\C differ, and lengths in words (with --model, in tokens).
The second and third write nothing. The last leaves out one phrase of each request at a time, finds the one
that the refusal depends on, and writes spans.jsonl for the cue kind "span" (--config.task.spans).

Where a file has fewer questions than a task's usual sizes ask for, all of them are split (test 30%,
validation 10%), and the terminal says so.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.hygiene.request import ProbeRequest
from introspection.probes.readouts import READOUT_WORDS
from introspection.runtime.command import STARTS_AGAIN, define_place_flags, run_program
from introspection.runtime.lock import held
from introspection.runtime.storage import working_folder

flags.DEFINE_string(
    "task", None, "the task: world_facts, hint_mmlu, aita, refusal, jsonl, … (introspection/tasks/README.md)"
)
flags.DEFINE_string("data", "", "your file or folder, for tasks that read one")
flags.DEFINE_string(
    "model",
    "",
    "WORKDIR[:ARM[:SEED]][@STEP], a path, smollm2, or @FILE (or FILE.txt) with one model a line; default: "
    "only the data",
)
flags.DEFINE_bool("dry-run", False, "read only the data, print a summary, and write nothing")
flags.DEFINE_bool("scan-cues", False, "compare wordings of the cue, recommend one, and write nothing")
flags.DEFINE_bool("find-spans", False, "find the phrase that each refusal depends on; write spans.jsonl")
flags.DEFINE_string("workdir", None, "output folder; default: runs/probe-<task>")
flags.DEFINE_integer(
    "limit", None, "ask at most so many items (with --scan-cues: groups, default 100), evenly spaced; 0: all"
)
flags.DEFINE_string("readout", "", f"how behaviour is read; default: as in the model's run. {READOUT_WORDS}")
flags.DEFINE_float(
    "margin", 0.1, "nats; decisions closer than this count as noise, phrases with a smaller effect as none"
)
flags.DEFINE_integer(
    "reply-tokens", 0, "longest generated reply; 0: as in the model's run, 24 for external models"
)
flags.DEFINE_bool(
    "self-knowledge",
    False,
    "score the candidates beside generated replies, to see how far the model's own log-probabilities tell "
    "which decisions the cue changes (with --readout=score, always shown)",
)
flags.DEFINE_string("judge-model", "", "the model that judges refusals; default: the probed model")
flags.DEFINE_integer("devices", 1, "over how many devices batches are split; -1: all")
flags.DEFINE_multi_string("set", [], "FIELD=VALUE of the task's config; may be repeated")
flags.DEFINE_multi_string("chat", [], "FIELD=VALUE of config.chat, for an external model; may be repeated")
define_place_flags()


def main(values, console) -> None:
    if not values.task:
        raise InputError("give --task=T, such as --task=world_facts")
    dry, scan, find = (values[name].value for name in ("dry-run", "scan-cues", "find-spans"))
    if dry + scan + find > 1:
        raise InputError("--dry-run, --scan-cues and --find-spans contradict each other: give one of them")
    if (scan or find) and not values.model:
        raise InputError(f"--{'scan-cues' if scan else 'find-spans'} asks a model: give --model=M")
    # The models' code is loaded only where a model is asked.
    from introspection.hygiene.dry_run import dry_run
    from introspection.hygiene.find_spans import find_spans
    from introspection.hygiene.probe import probe
    from introspection.hygiene.scan_cues import GROUPS, scan_cues
    from introspection.runs.model_list import listed_models

    limit = values.limit if values.limit is not None else GROUPS if scan else 0
    requests = [
        ProbeRequest(
            values.task,
            values.data,
            model,
            tuple(values["set"].value),
            tuple(values.chat),
            limit,
            values.readout,
            values.margin,
            values["reply-tokens"].value,
            values["judge-model"].value,
            values.devices,
            values["self-knowledge"].value,
            values.mesh,
        )
        for model in listed_models([values.model], "--model")
    ]
    default = Path("runs") / f"probe-{values.task}"
    if scan or dry or not values.model:  # nothing is written
        for request in requests:
            scan_cues(request, console) if scan else dry_run(request, console)
        return
    with working_folder(values.workdir or default) as workdir:
        for number, request in enumerate(requests, start=1):
            # A list's models each have a folder: names are paths, so the number tells them apart.
            own = workdir if len(requests) == 1 else workdir / f"{number}-{Path(request.model).name}"
            with held(own):
                if find:
                    find_spans(request, own, console)
                    continue
                report = probe(request, own, console)
            console.print(f"report: {report}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
