"""Names that other projects give to fields of a config, for errors that say what to write instead."""

import difflib
from collections.abc import Collection, Sequence

# A field, and names that mean it elsewhere. ARM stands for the name of an arm.
KNOWN_AS = {
    "arms.ARM.kl_weight": "lambda lambda_ lam kl_lambda kl_coef kl_coeff kl_beta beta kl",
    "arms.ARM.learning_rate": "lr learning_rate peak_lr max_lr",
    "arms.ARM.label_noise": "noise noise_rate label_noise",
    "arms.ARM.shift.weight": "mu shift_weight",
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
    "pretrain.rows": "batch_size",
    "initial": "model model_name model_path model_name_or_path base_model pretrained checkpoint",
    "label_teacher": "teacher teacher_model",
    "kl_reference": "reference ref_model reference_model",
    "seeds": "seed random_seed num_seeds",
    "lora.rank": "lora_r lora_rank r",
    "lora.alpha": "lora_alpha alpha",
    "lora.targets": "target_modules lora_target_modules",
    "behavior.reply_tokens": "max_new_tokens max_tokens max_length",
    "behavior.readout": "behaviour decoding scoring",
    "task.name": "dataset dataset_name task_name",
    "chat.system": "system_prompt system_message",
    "chat.template": "chat_template",
    "mesh.data": "devices num_devices num_gpus n_gpus gpus data_parallel dp",
    "mesh.tensor": "tensor_parallel tensor_parallel_size tp",
}


def meant(name: str) -> list[str]:
    """The fields that a name may mean."""
    plain = name.lower().replace("-", "_")
    return [field for field, names in KNOWN_AS.items() if plain in names.split()]


def suggestion(
    name: str, known: Sequence[str], below: Sequence[str] = (), fields: Collection[str] = ()
) -> str:
    """What to write instead of an unknown field: by meaning, else by spelling, else all that its section has.

    Args:
      known: the fields of its section.
      below: what was asked for inside it, such as `lr` of `optimizer.lr`.
      fields: all fields of the config, dotted: one of this name may be meant.
    """
    near = difflib.get_close_matches(name, known, n=1)
    found = meant(name)
    if here := [last for field in found if (last := field.rsplit(".", 1)[-1]) in known and last != name]:
        return f"did you mean {here[0]!r}?"
    if not found and not near and below:
        found = meant(below[-1])
    found = found or list(dict.fromkeys(field for field in fields if field.endswith(f".{name}")))
    if found:
        arm = " (ARM: an arm's name)" if any(".ARM." in field for field in found) else ""
        return f"you may mean {' or '.join(f'config.{field}' for field in found)}{arm}"
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
