"""Replies in the words of lm-evaluation-harness's rules for option letters, and what these rules read.

Runs in the peers' environment: `python letters.py FOLDER`. Writes there `letters.json`, a list of (where
from, reply, letter). The replies are the sentences of mmlu_pro's and mmlu_prox's patterns, which hold one
letter, and the worked answers of mmlu's flan prompts; the letters are what the harness's own filters read.
"""

import json
import sys
from pathlib import Path

import lm_eval.tasks
import yaml
from lm_eval.filters.extraction import RegexFilter

LETTER = r"\(?([ABCDEFGHIJ])\)?"
FLAN = r"(?<=The answer is )(.*)(?=.)"  # of mmlu/flan_cot_zeroshot, and of gpqa


class Loader(yaml.SafeLoader):
    """Reads the harness's files without the functions that they name."""


Loader.add_multi_constructor("!", lambda loader, suffix, node: None)


def main(folder: Path) -> None:
    tasks, said = Path(lm_eval.tasks.__file__).parent, []
    for file in sorted(
        [*tasks.glob("mmlu_pro/_*_template_yaml"), *tasks.glob("mmlu_prox/*/_*_template_yaml")]
    ):
        found = yaml.load(file.read_text(encoding="utf-8"), Loader)["filter_list"][0]["filter"][0]
        pattern = found["regex_pattern"]
        if LETTER in pattern:  # else it is a template of templates
            said += [(file.stem, *read(pattern, pattern.replace(LETTER, form))) for form in ("B", "(B)")]
    prompts = json.loads((tasks / "mmlu/flan_cot_fewshot/_cot_prompts.json").read_text(encoding="utf-8"))
    for subject, prompt in prompts.items():
        answers = [part.split("\n\n")[0] for part in prompt.split("\nA: ")[1:]]
        said += [(subject, *read(FLAN, answer)) for answer in answers]
    (folder / "letters.json").write_text(json.dumps(said), encoding="utf-8")


def read(pattern: str, reply: str) -> tuple[str, str]:
    """A reply, and what the harness's filter reads from it."""
    ((found,),) = RegexFilter(pattern).apply([[reply]], [{}])
    return reply, found.strip("().")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
