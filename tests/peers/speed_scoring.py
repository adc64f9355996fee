"""Log-likelihoods by lm-evaluation-harness, when told over stdin.

Runs in the peers' environment: `python speed_scoring.py FOLDER`, which has `model` and `requests.json`, a
list of (context, continuation) as token ids. Each line of stdin is {"count": N, "batch_size": B}; each answer
has the log-probabilities of the first N requests and the seconds that they took.
"""

import json
import sys
import time
from pathlib import Path

import lm_eval
import torch
import transformers
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

END = "<end>"


def main(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.float32, local_files_only=True
    ).eval()
    # The requests are tokens already; the harness only wants to have a tokenizer.
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({END: 0}, unk_token=END)), eos_token=END, pad_token=END
    )
    harness = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu", dtype="float32")
    pairs = json.loads((folder / "requests.json").read_text())
    requests = [((str(number), ""), context, said) for number, (context, said) in enumerate(pairs)]
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    versions |= {"lm_eval": lm_eval.__version__, "threads": torch.get_num_threads()}
    print(json.dumps(versions), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        # What HFLM.loglikelihood calls once it has encoded the texts.
        start = time.perf_counter()
        answers = harness._loglikelihood_tokens(
            requests[: command["count"]], disable_tqdm=True, override_bs=command["batch_size"]
        )
        seconds = time.perf_counter() - start
        print(json.dumps({"seconds": seconds, "logprobs": [answer[0] for answer in answers]}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
