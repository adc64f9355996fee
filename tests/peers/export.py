"""Loads what this library exported, in transformers and peft, and trains adapters as it does.

Runs in the peers' environment: `python export.py FOLDER`. FOLDER has `tokens.npy`, `models/<name>`,
`adapters/<name>` (their base_model_name_or_path is a model of `models`) and `training` (rows of 20 batches,
settings, and what each model's adapters start as). Writes `<name>.npy` beside each model and adapter: its
logits or, in `training`, its losses; and `peft/<options>`, adapters made here, with their logits.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

# Adapters of another origin: what peft writes itself, with options that change nothing or little.
MADE_HERE = {
    "some": dict(r=4, lora_alpha=6, target_modules=["q_proj", "o_proj", "up_proj"], lora_dropout=0.1),
    "all": dict(r=2, lora_alpha=2, target_modules="all-linear", init_lora_weights="gaussian"),
}


def load_model(folder: Path):
    # Eager, since the fused attentions have no soft-caps.
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()


def logits_of(model, tokens) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.numpy()


def make_adapter(model, options: dict, seed: int):
    made = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return made


def train(folder: Path, model_folder: Path, adapter_folder: Path) -> list[float]:
    settings = json.loads((folder / "settings.json").read_text())
    rows = {name: torch.from_numpy(array).long() for name, array in np.load(folder / "rows.npz").items()}
    model = PeftModel.from_pretrained(load_model(model_folder), adapter_folder, is_trainable=True)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained,
        lr=settings["learning_rate"],
        betas=(0.9, 0.98),
        eps=1e-8,
        weight_decay=settings["weight_decay"],
    )
    losses = []
    for tokens, segments, scored, targets, counted in zip(
        *(rows[name] for name in ("tokens", "segments", "scored", "targets", "counted")), strict=True
    ):
        logits = model(tokens, attention_mask=(segments >= 0).long()).logits
        at = torch.gather(logits, 1, scored[:, :, None].expand(-1, -1, logits.shape[-1]))
        every = torch.nn.functional.cross_entropy(at.flatten(0, 1), targets.flatten(), reduction="none")
        loss = (every * counted.flatten()).sum() / counted.sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, settings["gradient_clip"])
        optimizer.step()
        losses.append(loss.item())
    return losses


def main(folder: Path) -> None:
    tokens = np.load(folder / "tokens.npy")
    for model in sorted(path for path in (folder / "models").iterdir() if path.is_dir()):
        np.save(folder / "models" / f"{model.name}.npy", logits_of(load_model(model), tokens))
    for adapter in sorted(path for path in (folder / "adapters").iterdir() if path.is_dir()):
        base = json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
        adapted = PeftModel.from_pretrained(load_model(folder / "models" / base), adapter).eval()
        np.save(folder / "adapters" / f"{adapter.name}.npy", logits_of(adapted, tokens))
    (folder / "peft").mkdir()
    for seed, (name, options) in enumerate(MADE_HERE.items()):
        made = make_adapter(load_model(folder / "models" / "llama"), options, seed)
        made.save_pretrained(folder / "peft" / name)
        np.save(folder / "peft" / f"{name}.npy", logits_of(made, tokens))
    for start in sorted(path for path in (folder / "training").iterdir() if path.is_dir()):
        losses = train(folder / "training", folder / "models" / start.name, start)
        np.save(folder / "training" / f"{start.name}.npy", np.array(losses))


if __name__ == "__main__":
    torch.manual_seed(0)
    main(Path(sys.argv[1]))
