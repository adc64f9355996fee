"""Behaviour and hygiene of one task and model: a page, the same as JSON, and every item's behaviour.

    python -m experiments.probe --task=world_facts --model=smollm2
    python -m experiments.probe --task=hint_mmlu --model=smollm2 --scan-cues
    python -m experiments.probe --task=jsonl --data=questions.jsonl --dry-run
    python -m experiments.probe --task=refusal --model=smollm2 --find-spans

The first asks a model (named as for experiments.compare) the task's test items and writes hygiene.html,
hygiene.json and behaviors.jsonl into its workdir. The second asks every variant of the cue about the same
training questions, prints how often each changes the decision, and recommends one at which both classes of
labels are there. The third reads the data alone: it lists the bad rows of a user's own file and ends with
exit code 2, or prints splits, cue kinds, what x and x\\C differ in, and lengths, in words or in the tokens of
a model. Without --model it is what is done. These two write nothing. The last finds the part of each request
that the model's refusal hangs on, by leaving out one phrase after the other, and writes spans.jsonl into its
workdir, for the cue kind "span" (--config.task.spans).
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.hygiene.request import ProbeRequest
from introspection.runtime.command import run_program

flags.DEFINE_string("task", None, "which task, such as world_facts")
flags.DEFINE_string("data", "", "the user's own file or folder, of tasks that read one")
flags.DEFINE_string(
    "model", "", "WORKDIR[:ARM[:SEED]][@STEP], a model's path, or smollm2; none: the data alone"
)
flags.DEFINE_bool("dry-run", False, "read the data alone, print what they hold, and write nothing")
flags.DEFINE_bool("scan-cues", False, "compare the variants of the cue, recommend one, and write nothing")
flags.DEFINE_bool(
    "find-spans", False, "find the part of a request that a refusal hangs on; write spans.jsonl"
)
flags.DEFINE_string("workdir", None, "folder of what is written; runs/probe-<task> if not given")
flags.DEFINE_integer(
    "limit", None, "items asked (with --scan-cues: groups, 100 if not given), taken evenly; 0 is all"
)
flags.DEFINE_string(
    "readout", "", "how behaviour is read, score or generate; as the model's run if not given"
)
flags.DEFINE_float(
    "margin", 0.1, "nats; decisions closer than this count as noise, phrases with less effect as none"
)
flags.DEFINE_integer(
    "reply-tokens", 0, "longest generated reply; 0: as the model's run has it, 24 of a model made elsewhere"
)
flags.DEFINE_string("judge-model", "", "what the model judge of refusals asks; the model itself if not given")
flags.DEFINE_multi_string("set", [], "FIELD=VALUE of the task's config; may be given several times")
flags.DEFINE_multi_string("chat", [], "FIELD=VALUE of how a model made elsewhere is addressed (config.chat)")


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

    limit = values.limit if values.limit is not None else GROUPS if scan else 0
    request = ProbeRequest(
        values.task,
        values.data,
        values.model,
        tuple(values["set"].value),
        tuple(values.chat),
        limit,
        values.readout,
        values.margin,
        values["reply-tokens"].value,
        values["judge-model"].value,
    )
    workdir = Path(values.workdir or Path("runs") / f"probe-{request.task}")
    if scan:
        scan_cues(request, console)
    elif find:
        find_spans(request, workdir, console)
    elif dry or not request.model:
        dry_run(request, console)
    else:
        report = probe(request, workdir, console)
        console.print(f"report: {report}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS)
