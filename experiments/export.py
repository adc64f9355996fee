"""Exports a model: a folder that transformers loads, or adapters for PEFT.

    python -m experiments.export --model=runs/smollm2:kl --to=exported/kl
    python -m experiments.export --model=runs/smollm2:kl --to=exported/kl_adapters --format=peft

A model is named as for experiments.compare: WORKDIR[:ARM[:SEED]][@STEP], a Hugging Face folder, a GGUF file,
BASE+ADAPTERS or smollm2. Adapters are merged into the weights, or written alone (--format=peft). A float32
export is lossless: experiments.compare recognises it as the same model.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.runs.export import DTYPES, FORMATS, export
from introspection.runtime.command import STARTS_AGAIN, define_place_flags, run_program

flags.DEFINE_string("model", None, "the model; the name must mean exactly one")
flags.DEFINE_string("to", None, "the folder to write; it must be empty or not exist")
flags.DEFINE_string("format", "hf", f"{' or '.join(FORMATS)}: the whole model, or only its adapters")
flags.DEFINE_string("dtype", "float32", f"of the weights: {' or '.join(DTYPES)}")
define_place_flags()


def main(values, console) -> None:
    if not values.model or not values.to:
        raise InputError("give --model=NAME and --to=FOLDER")
    export(values.model, Path(values.to), values.format, values.dtype, console, values.mesh)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
