"""Loads what this library exported, in transformers and peft, and trains adapters as it does.

Runs in the peers' environment: `python export.py FOLDER`. FOLDER has `tokens.npy`, `models/<name>`,
`adapters/<name>` (their base_model_name_or_path is a model of `models`), `small/<name>` (models) and
`training` (rows of 20 batches, settings, and what each model's adapters start as). Writes `<name>.npy` beside
each model and adapter: its logits or, in `training`, its losses; `again/<name>`, each adapter as peft saves
it; `peft/<options>`, adapters made here, with their logits; and
`uneven/<base>/<options>` on the models of `small`, with their log-probabilities.
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
# Adapters whose modules differ in rank, scale or layer, or that replace the head, by base and name.
UNEVEN = {
    ("llama", "rslora"): dict(r=3, lora_alpha=5, target_modules=["q_proj", "up_proj"], use_rslora=True),
    ("llama", "patterns"): dict(
        r=2,
        lora_alpha=3,
        target_modules="all-linear",
        # PEFT stores keys in the order of the alphabet, and the first that matches counts.
        rank_pattern={"1.mlp.up_proj": 1, r"layers\.1\.mlp\..*": 4, "q_proj": 5},
        alpha_pattern={r"^model\.layers\.0\..*_proj": 7, "k_proj": 1.5, "mlp.up_proj": 2, "self_attn": 50},
    ),
    ("qwen3", "rslora_patterns"): dict(
        r=2,
        lora_alpha=3,
        target_modules=["q_proj", "k_proj", "v_proj"],
        use_rslora=True,
        rank_pattern={"v_proj": 6},
        alpha_pattern={"proj": 99, "(q|v)_proj": 8},
    ),
    ("llama", "last_layer"): dict(
        r=2, lora_alpha=3, target_modules=["q_proj", "down_proj"], layers_to_transform=[1]
    ),
    ("mistral", "named_layer"): dict(
        r=2, lora_alpha=3, target_modules=["v_proj"], layers_to_transform=0, layers_pattern="layers"
    ),
    ("llama", "expression"): dict(
        r=2,
        lora_alpha=3,
        target_modules=r".*\.0\.self_attn\.(q|v)_proj|.*\.1\.mlp\.up_proj",
        exclude_modules=["0.self_attn.v_proj"],
    ),
    ("llama", "head"): dict(r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    ("qwen3", "tied_head"): dict(r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["lm_head"]),
    ("qwen3", "tied_embedding"): dict(
        r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["embed_tokens"]
    ),
    ("qwen2", "both"): dict(
        r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"]
    ),
    ("qwen3", "kept_tied"): dict(
        r=2,
        lora_alpha=3,
        target_modules=["q_proj"],
        modules_to_save=["embed_tokens"],
        ensure_weight_tying=True,
    ),
}


def load_model(folder: Path):
    # Eager, since the fused attentions have no soft-caps.
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()


def logits_of(model, tokens) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(tokens)).logits.numpy()


def make_adapter(model, options: dict, seed: int, size: float = 0.3):
    made = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in made.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * size
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
        adapted.save_pretrained(folder / "again" / adapter.name)
    (folder / "peft").mkdir()
    for seed, (name, options) in enumerate(MADE_HERE.items()):
        made = make_adapter(load_model(folder / "models" / "llama"), options, seed)
        made.save_pretrained(folder / "peft" / name)
        np.save(folder / "peft" / f"{name}.npy", logits_of(made, tokens))
    for seed, ((base, name), options) in enumerate(UNEVEN.items()):
        target = folder / "uneven" / base / name
        make_adapter(load_model(folder / "small" / base), options, seed, 0.15).save_pretrained(target)
        # As a reader sees it: from the files.
        read = PeftModel.from_pretrained(load_model(folder / "small" / base), target).eval()
        logprobs = torch.log_softmax(torch.from_numpy(logits_of(read, tokens)), -1)
        np.save(target.with_suffix(".npy"), logprobs.numpy())
    for start in sorted(path for path in (folder / "training").iterdir() if path.is_dir()):
        losses = train(folder / "training", folder / "models" / start.name, start)
        np.save(folder / "training" / f"{start.name}.npy", np.array(losses))


if __name__ == "__main__":
    torch.manual_seed(0)
    main(Path(sys.argv[1]))
