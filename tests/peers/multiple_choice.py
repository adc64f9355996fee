"""A multiple-choice task of lm-evaluation-harness on a tiny random model: likelihoods, choices and `acc`.

Runs in the peers' environment: `python multiple_choice.py FOLDER`. Writes there the model to `model`,
`rows.jsonl` (the questions, for the task jsonl) and `samples.json`: for every question with and without its
cue the log-likelihoods of the choices (nats) and whether the likeliest one is called right, and `acc`.
"""

import json
import random
import sys
from pathlib import Path

import torch
from families import families
from harness import END, WORDS, train_tokenizer, write_model
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM

QUESTIONS = 40


def rows() -> list[dict]:
    rng = random.Random(0)
    made = []
    for number in range(QUESTIONS):
        words = rng.sample(sorted({*WORDS}), 8)
        # Choices of several lengths; one begins another.
        choices = [words[0], f"{words[0]} {words[1]}", words[2], "Oslo 東京"][: 2 + number % 3]
        rng.shuffle(choices)
        question = f"{' '.join(words[3:])}?"
        made.append(
            {
                "group": str(number),
                "prompt_without_cue": question,
                "prompt_with_cue": f"{question} I think it is {choices[0]}.",
                "candidates": choices,
                "gold": rng.choice(choices),
            }
        )
    return made


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    path = write_model(folder / "model", families()["llama32"], train_tokenizer())
    lines = rows()
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    model = HFLM(pretrained=path, device="cpu", dtype="float32", batch_size=3)
    found = {}
    for side in ("with_cue", "without_cue"):
        task = {
            "task": side,
            "dataset_path": "json",
            "dataset_kwargs": {
                "data_files": {"test": str(folder / "rows.jsonl")},
                "cache_dir": str(folder / "cache"),
            },
            "test_split": "test",
            "output_type": "multiple_choice",
            # As our plain format: the reply follows with a space, and its end is scored.
            "doc_to_text": f"Question: {{{{prompt_{side}}}}}\nAnswer:",
            "doc_to_choice": lambda doc: [choice + END for choice in doc["candidates"]],
            "doc_to_target": "{{candidates.index(gold)}}",
            "metric_list": [{"metric": "acc"}],
        }
        result = simple_evaluate(model, tasks=[task], log_samples=True, bootstrap_iters=0)
        samples = sorted(result["samples"][side], key=lambda sample: sample["doc_id"])
        found[side] = {
            "logprobs": [
                dict(zip(line["candidates"], (said[0] for said in sample["filtered_resps"]), strict=True))
                for line, sample in zip(lines, samples, strict=True)
            ],
            "right": [sample["acc"] for sample in samples],
            "acc": result["results"][side]["acc,none"],
        }
    (folder / "samples.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
