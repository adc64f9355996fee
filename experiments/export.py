"""Writes a model for other programs: a folder that transformers loads, or adapters for PEFT.

    python -m experiments.export --model=runs/smollm2:kl --to=exported/kl
    python -m experiments.export --model=runs/smollm2:kl --to=exported/kl_adapters --format=peft

A model is what experiments.compare can name: WORKDIR[:ARM[:SEED]][@STEP], a Hugging Face folder, a GGUF file,
BASE+ADAPTERS, smollm2. Adapters are merged into the weights, or written alone (--format=peft). In float32
nothing is lost: what is written is the same model again, for compare too.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.runs.export import DTYPES, FORMATS, export
from introspection.runtime.command import run_program

flags.DEFINE_string("model", None, "the model, by a name that means one alone")
flags.DEFINE_string("to", None, "the folder to write, which must be empty or not there")
flags.DEFINE_string("format", "hf", f"{' or '.join(FORMATS)}: a whole model, or its adapters alone")
flags.DEFINE_string("dtype", "float32", f"of the numbers: {' or '.join(DTYPES)}")


def main(values, console) -> None:
    if not values.model or not values.to:
        raise InputError("give --model=NAME and --to=FOLDER")
    export(values.model, Path(values.to), values.format, values.dtype, console)


if __name__ == "__main__":
    run_program(main, flags.FLAGS)
