"""Losses of DPO and GRPO and their slopes, by TRL's own code.

Runs in the peers' environment: `python post_training.py FOLDER`. FOLDER has `numbers.npz`, the logits of
replies and what the losses need beside them. Writes `answers.npz`: each loss, and its gradient by the logits.
TRL's trainers compute their losses in `_compute_loss`; it is called here as it is, on a stand-in for the
trainer that has no model but these logits. Advantages are a few lines of `_generate_and_score_completions`
(TRL 1.16.0, grpo_trainer.py, "Compute grouped-wise rewards"), which can't be called apart; they are repeated.
"""

import collections
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_trainer import GRPOTrainer, nanstd


def stand_in(**settings):
    whole = SimpleNamespace(
        device="cpu",
        num_processes=1,
        gather=lambda value: value,
        gather_for_metrics=lambda value: value,
        reduce=lambda value, reduction: value,
    )
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=whole,
        aux_loss_enabled=False,
        _metrics={"train": collections.defaultdict(list)},
        **settings,
    )


def token_logprobs(logits, tokens, temperature=1.0):
    return torch.gather(torch.log_softmax(logits / temperature, -1), -1, tokens[..., None])[..., 0]


def dpo(numbers, beta):
    """Sequences are [chosen; rejected]; their first token is the prompt, and predicts a reply's first."""
    logits = torch.tensor(numbers["pair_logits"], requires_grad=True)
    tokens, mask = torch.tensor(numbers["pair_tokens"]), torch.tensor(numbers["pair_mask"])
    prompt = torch.zeros((len(tokens), 1), dtype=torch.long)
    masked = token_logprobs(logits, tokens) * mask

    def model(**inputs):
        zeros = torch.zeros_like(masked)
        return SimpleNamespace(
            log_probs=masked, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=zeros
        )

    trainer = stand_in(
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=["sigmoid"],
        loss_weights=[1.0],
        label_smoothing=0.0,
        use_weighting=False,
        beta=beta,
        _total_train_tokens=0,
        _tp_size=1,
    )
    chosen, rejected = torch.tensor(numbers["pair_reference"]).chunk(2)
    inputs = {
        "input_ids": torch.cat([prompt, tokens], 1),
        "attention_mask": torch.cat([prompt + 1, mask.long()], 1),
        "completion_mask": torch.cat([prompt, mask.long()], 1),
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    loss = DPOTrainer._compute_loss(trainer, model, inputs, False)
    loss.backward()
    return loss.item(), logits.grad.numpy()


def advantages_of(rewards, group):
    grouped = rewards.view(-1, group)
    mean = grouped.nanmean(dim=1).repeat_interleave(group)
    spread = nanstd(grouped, dim=1).repeat_interleave(group)
    return (rewards - mean) / (spread + 1e-4)


def grpo(numbers, loss_type, clip, beta, temperature):
    logits = torch.tensor(numbers["group_logits"], requires_grad=True)
    tokens, mask = torch.tensor(numbers["group_tokens"]), torch.tensor(numbers["group_mask"]).long()
    rewards = torch.tensor(numbers["rewards"])
    trainer = stand_in(
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=beta,
        epsilon_low=clip,
        epsilon_high=clip,
        loss_type=loss_type,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        current_gradient_accumulation_steps=1,
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
    )
    trainer._get_per_token_logps_and_entropies = lambda *inputs, **options: (
        token_logprobs(logits, tokens, temperature),
        torch.zeros_like(mask, dtype=torch.float32),
        None,
    )
    inputs = {
        "prompt_ids": torch.zeros((len(tokens), 1), dtype=torch.long),
        "prompt_mask": torch.ones((len(tokens), 1), dtype=torch.long),
        "completion_ids": tokens,
        "completion_mask": mask,
        "advantages": advantages_of(rewards.reshape(-1), rewards.shape[1]),
        "old_per_token_logps": torch.tensor(numbers["group_sampled"]),
        "ref_per_token_logps": torch.tensor(numbers["group_reference"]),
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    return loss.item(), logits.grad.numpy()


def main(folder):
    numbers = dict(np.load(folder / "numbers.npz"))
    settings = [float(value) for value in numbers["settings"]]  # DPO's β; GRPO's clip, β and temperature
    found = {"dpo": dpo(numbers, settings[0])}
    found |= {kind: grpo(numbers, kind, *settings[1:]) for kind in ("dapo", "bnpo")}
    answers = {f"{name}_loss": loss for name, (loss, _) in found.items()}
    np.savez(
        folder / "answers.npz", **answers, **{f"{name}_slope": slope for name, (_, slope) in found.items()}
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
