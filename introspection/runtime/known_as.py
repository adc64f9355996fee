"""Names that other projects give to fields of a config, for errors that say what to write instead."""

import difflib
import re
from collections.abc import Collection, Sequence

# A field, and names that mean it elsewhere. ARM stands for the name of an arm.
KNOWN_AS = {
    "arms.ARM.kl_weight": "lambda lambda_ lam kl_lambda kl_coef kl_coeff kl_beta beta kl",
    "arms.ARM.learning_rate": "lr learning_rate peak_lr max_lr optimizer_lr",
    "arms.ARM.label_noise": "noise noise_rate label_noise",
    "arms.ARM.shuffle_labels": "shuffle shuffled random_labels",
    "arms.ARM.shift.weight": "mu shift_weight",
    "arms.ARM.shift.group_size": "num_generations group n_samples",
    "arms.ARM.shift.clip": "epsilon cliprange clip_range",
    "arms.ARM.foreign_labels": "mixing_share alpha",
    "train.explanation_rows": "batch batch_size bs per_device_train_batch_size train_batch_size",
    "train.behavior_items": "kl_batch_size behavior_rows behaviour_rows",
    "train.steps": "epochs num_epochs num_train_epochs num_steps max_steps n_steps train_steps total_steps",
    "train.warmup_steps": "warmup num_warmup_steps warmup_ratio",
    "train.schedule": "scheduler lr_scheduler lr_scheduler_type lr_schedule",
    "train.weight_decay": "wd",
    "train.gradient_clip": "max_grad_norm grad_clip clip max_norm",
    "train.checkpoint_steps": "save_steps save_every checkpoint_every",
    "train.keep_checkpoints": "save_total_limit max_to_keep",
    "train.evaluation_steps": "eval_steps eval_every eval_interval",
    "train.log_steps": "logging_steps log_every log_interval",
    "train.remat": "gradient_checkpointing checkpoint_activations",
    "train.microbatches": "grad_accum gradient_accumulation gradient_accumulation_steps accumulation_steps",
    "pretrain.rows": "batch_size",
    "initial": "model model_name model_path model_name_or_path base_model pretrained checkpoint",
    "label_teacher": "teacher teacher_model",
    "kl_reference": "reference ref_model reference_model",
    "name": "run_name experiment_name",
    "seeds": "seed random_seed num_seeds n_seeds",
    "lora.rank": "lora_r lora_rank r",
    "lora.alpha": "lora_alpha alpha",
    "lora.targets": "target_modules lora_target_modules",
    "behavior.reply_tokens": "max_new_tokens max_tokens max_length",
    "behavior.readout": "behaviour decoding scoring",
    "task.name": "dataset dataset_name task_name",
    "task.data": "data data_path data_dir data_file data_files dataset_path task_path train_file",
    **dict.fromkeys(
        ("task.test_items", "task.test_facts", "task.test_entities"), "test_size n_test num_test"
    ),
    **dict.fromkeys(
        ("task.train_items", "task.train_facts", "task.train_entities"), "train_size n_train num_train"
    ),
    "chat.system": "system_prompt system_message",
    "chat.template": "chat_template",
    "log.wandb": "wandb_project use_wandb",
    "log.trackio": "trackio_project use_trackio",
    "mesh.data": "device devices num_devices num_gpus n_gpus gpus data_parallel dp",
    "mesh.tensor": "tensor_parallel tensor_parallel_size tp",
}

# Where a value means another thing than under the other name.
UNITS = {
    "train.steps": "optimizer steps, not epochs",
    "train.warmup_steps": "steps, not a share",
    "train.microbatches": "parts of a step's rows, which stay as many",
    "seeds": "the seeds themselves, such as 0,1,2",
}

# What has no field here, and what to do instead.
NO_FIELD = {
    "output_dir out_dir workdir save_dir log_dir": "give --workdir=W",
    "dropout lora_dropout attention_dropout": "nothing here has dropout",
    "bf16 fp16 fp32 dtype torch_dtype precision mixed_precision compute_dtype half": "on accelerators,"
    " training multiplies matrices in bfloat16, and everything else is float32;"
    " config.lora.base_dtype=bfloat16 keeps a frozen base as its files have it",
    "temperature top_p top_k do_sample num_beams": "replies are decoded greedily",
    "max_seq_length max_seq_len seq_len max_prompt_length": "prompts are never cut; items that exceed the"
    " model's context are left out, at most config.evaluation.skipped_share of them",
    "optimizer optim adam adamw": "it is AdamW; see config.arms.ARM.learning_rate and"
    " config.train.weight_decay",
    "num_workers dataloader_num_workers": "batches are made in the main process",
    "data data_path data_dir data_file data_files dataset_path task_path train_file": "this config's task"
    " reads no file; configs/jsonl.py reads your own",
    "report_to tracker": "give --config.log.wandb=PROJECT or --config.log.trackio=PROJECT",
    "load_in_4bit load_in_8bit quantization": "nothing is quantised;"
    " config.lora.base_dtype=bfloat16 halves a frozen base",
}  # fmt: skip


def meant(name: str, section: str = "", fields: Collection[str] = ()) -> list[str]:
    """The fields that a name may mean, alone or after its section's name (`lora.r`).

    Args:
      section: the dotted path of the section that was asked for it.
      fields: all fields of the config, dotted and with ARM for an arm's name; () is all of `KNOWN_AS`.
    """
    for said in _readings(name, section):
        found = [field for field, names in KNOWN_AS.items() if said in names.split()]
        if found := [field for field in found if not fields or field in fields]:
            return found
    return []


def suggestion(
    name: str,
    known: Collection[str],
    section: str = "",
    below: Sequence[str] = (),
    fields: Collection[str] = (),
) -> str:
    """What to write instead of an unknown field: by meaning, else by spelling, else all that its section has.

    Args:
      known: the fields of its section.
      section: this section's dotted path, with ARM for an arm's name; "" for the config itself.
      below: what was asked for inside it, such as `lr` of `optimizer.lr`.
      fields: all fields of the config, as for `meant`: one of this name may be meant.
    """
    near = difflib.get_close_matches(name, known, n=1)
    said = by_meaning(below[-1], name, fields) if below and not near else ""
    said = said or by_meaning(name, section, fields)
    return said or (f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}")


def by_meaning(name: str, section: str = "", fields: Collection[str] = (), prefix: str = "config.") -> str:
    """What to write instead of a name that means a field elsewhere, or why it has none; "" if unknown.

    Args: section, fields: as for `meant`. prefix: of the fields' names in the answer.
    """
    found = meant(name, section, fields)
    here = [last for field in found if field == ".".join(filter(None, (section, last := _last(field))))]
    if prefix == "config." and here and here[0] != name:
        return f"did you mean {here[0]!r}?{_unit(found[0])}"
    for names, said in NO_FIELD.items():
        if not found and set(_readings(name, section)) & set(names.split()):
            return said
    found = found or [field for field in fields if field.endswith(f".{name}")]
    arm = " (ARM: an arm's name)" if any(".ARM." in field for field in found) else ""
    fields = " or ".join(f"{prefix}{field}{_unit(field)}" for field in found)
    return f"you may mean {fields}{arm}" if found else ""


def with_arm(path: str) -> str:
    """A dotted path with ARM for an arm's name."""
    return re.sub(r"^arms\.[^.]+", "arms.ARM", path)


def _readings(name: str, section: str) -> tuple[str, str]:
    """The name alone, and after its section's."""
    plain = name.lower().replace("-", "_")
    return plain, f"{_last(section)}_{plain}"


def _last(field: str) -> str:
    return field.rsplit(".", 1)[-1]


def _unit(field: str) -> str:
    return f" ({UNITS[field]})" if field in UNITS else ""
