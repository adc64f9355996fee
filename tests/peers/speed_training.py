"""Steps of the whole objective by transformers and peft, and a bare gradient, when told over stdin.

Runs in the peers' environment: `python speed_training.py FOLDER`, which has `model`, `adapter`,
`batch<N>.npz` and `tokens.npy` (see experiments/benchmarks/pretrained_objective.py). Each line of stdin
is a JSON object: {"do": "step", "way": "plain" | "tuned", "batch": N} or {"do": "gradient"}; each answer one
with the loss and the seconds that it took.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import peft
import torch
import torch.nn.functional as F
import transformers
from peft import PeftModel
from transformers import AutoModelForCausalLM

LEARNING_RATE, GRADIENT_CLIP = 1e-4, 1.0


def load_model(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()


def at_scored(states: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    return torch.gather(states, 1, scored[:, :, None].expand(-1, -1, states.shape[-1]))


def objective(
    current: tuple[torch.Tensor, torch.Tensor], reference: torch.Tensor, batch: dict[str, torch.Tensor]
) -> torch.Tensor:
    """Of logits at the scored positions: `current` are the explanation rows' and the reply rows'."""
    explanation, reply = current
    every = F.cross_entropy(
        explanation.flatten(0, 1), batch["explanation_targets"].flatten(), reduction="none"
    )
    counted = batch["explanation_counted"].float()
    loss = (every * counted.flatten()).sum() / counted.sum()
    each = F.kl_div(reply.log_softmax(-1), reference.log_softmax(-1), reduction="none", log_target=True).sum(
        -1
    )
    said = batch["reply_counted"].float()
    return loss + ((each * said).sum(-1) / said.sum(-1)).mean()


def plain_loss(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of all positions; the reference is the model without its adapters."""
    count = len(batch["explanation_tokens"])
    tokens = torch.cat([batch["explanation_tokens"], batch["reply_tokens"]])
    mask = torch.cat([batch["explanation_mask"], batch["reply_mask"]]).long()
    with torch.no_grad(), model.disable_adapter():
        reference = model(batch["reply_tokens"], attention_mask=mask[count:]).logits
        reference = at_scored(reference, batch["reply_scored"])
    logits = model(tokens, attention_mask=mask).logits
    current = (
        at_scored(logits[:count], batch["explanation_scored"]),
        at_scored(logits[count:], batch["reply_scored"]),
    )
    return objective(current, reference, batch)


def tuned_loss(model, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Scored positions alone reach the head; the reference's hidden states are given.

    Rows are padded on the right, so what is counted never sees padding, and no mask is needed.
    """
    decoder, head = model.get_base_model().model, model.get_base_model().lm_head
    count = len(batch["explanation_tokens"])
    tokens = torch.cat([batch["explanation_tokens"], batch["reply_tokens"]])
    hidden = decoder(tokens, use_cache=False).last_hidden_state
    with torch.no_grad():
        reference = head(batch["reference_hidden"])
    current = (
        head(at_scored(hidden[:count], batch["explanation_scored"])),
        head(at_scored(hidden[count:], batch["reply_scored"])),
    )
    return objective(current, reference, batch)


class Trainer:
    """Adapters on the model, and one optimizer a way, which share their state."""

    def __init__(self, folder: Path):
        self.model = PeftModel.from_pretrained(
            load_model(folder / "model"), folder / "adapter", is_trainable=True
        )
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizers = {
            way: torch.optim.AdamW(
                self.trained, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.0, fused=fused
            )
            for way, fused in (("plain", None), ("tuned", True))
        }
        self.optimizers["tuned"].state = self.optimizers["plain"].state
        self.batches = []
        while (path := folder / f"batch{len(self.batches)}.npz").exists():
            arrays = {name: torch.from_numpy(array) for name, array in np.load(path).items()}
            self.batches.append(
                {name: a.long() if a.dtype == torch.int32 else a for name, a in arrays.items()}
            )

    def step(self, way: str, number: int) -> float:
        batch, optimizer = self.batches[number], self.optimizers[way]
        loss = (plain_loss if way == "plain" else tuned_loss)(self.model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.trained, GRADIENT_CLIP)
        optimizer.step()
        return loss.item()


class Gradient:
    """The mean next-token loss of all positions, and its gradient in all parameters."""

    def __init__(self, folder: Path):
        self.model = load_model(folder / "model")
        self.tokens = torch.from_numpy(np.load(folder / "tokens.npy")).long()

    def __call__(self) -> float:
        self.model.zero_grad()
        loss = self.model(self.tokens, labels=self.tokens, use_cache=False).loss
        loss.backward()
        return loss.item()


def main(folder: Path) -> None:
    trainer, gradient = Trainer(folder), Gradient(folder)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    print(json.dumps({**versions, "peft": peft.__version__, "threads": torch.get_num_threads()}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        start = time.perf_counter()
        loss = trainer.step(command["way"], command["batch"]) if command["do"] == "step" else gradient()
        print(json.dumps({"loss": loss, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
