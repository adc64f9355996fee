"""Small batches for the objective, and its metrics and gradient."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from reference_decoder import reference_hidden, reference_token_logprobs
from tiny import (
    tiny_config,
    tiny_variables,
)

from introspection.models.head import head_matrix
from introspection.probes.scored import add_none_bucket
from introspection.tasks.items import NONE
from introspection.text.rows import Rows, build_row, stack_rows
from introspection.training.loop import weights
from introspection.training.objectives import (
    Answers,
    BehaviorBatch,
    ObjectiveConfig,
    batch_loss,
)

# Eight tokens, so that candidates, `none` and the whole vocabulary all carry weight.
CONFIG = tiny_config(vocab_size=8)


CURRENT = tiny_variables(CONFIG)


REFERENCE_CONFIG = tiny_config(vocab_size=8, width=24)


REFERENCE = tiny_variables(REFERENCE_CONFIG, seed=1)


REFERENCE_HEAD = head_matrix(REFERENCE, REFERENCE_CONFIG)


TIME = 12


class Asked(NamedTuple):
    """Two prompts and their candidates, as token lists."""

    with_cue: list
    without_cue: list
    candidates: list

    @property
    def prompts(self):
        return self.with_cue, self.without_cue


def questions(seed=0, count=6):
    """Items with two to four candidates of one or two tokens, none a beginning of another."""
    rng = np.random.default_rng(seed)
    asked = []
    for i in range(count):
        first = rng.permutation(8)[: 2 + i % 3].tolist()
        candidates = [[token, int(rng.integers(8))] if rng.random() < 0.4 else [token] for token in first]
        without_cue = rng.integers(0, 8, int(rng.integers(1, 5))).tolist()
        asked.append(Asked([*without_cue, *rng.integers(0, 8, 2).tolist()], without_cue, candidates))
    return asked


def scores_with_none(config, variables, prompt, candidates):
    scores = [reference_token_logprobs(config, variables, prompt, c).sum() for c in candidates]
    return add_none_bucket(np.array(scores))


def behavior_of(asked, kl_mask=None, trained=None, clean=None, labelled=None):
    """A behaviour batch, put together here from its definition."""
    nothing = [(False, 0)] * len(asked)
    pairs = list(zip(trained or nothing, clean or trained or nothing, strict=True))
    slots = max(len(a.candidates) for a in asked)
    rows = stack_rows([build_row(p, a.candidates) for a in asked for p in a.prompts], TIME)
    logprobs = np.full((len(asked), 2, slots + 1), -1e30, np.float32)
    for i, a in enumerate(asked):
        for j, prompt in enumerate(a.prompts):
            *scores, none = scores_with_none(REFERENCE_CONFIG, REFERENCE, prompt, a.candidates)
            logprobs[i, j, : len(scores)] = scores
            logprobs[i, j, slots] = none
    hidden = [[reference_hidden(REFERENCE_CONFIG, REFERENCE, p)[-1:] for p in a.prompts] for a in asked]
    answers = Answers(
        candidates=np.array([len(a.candidates) for a in asked], np.int32),
        reference_logprobs=logprobs,
        labelled=np.ones(len(asked), bool) if labelled is None else labelled,
        label_changed=np.array([[changed for changed, _ in pair] for pair in pairs]),
        label_answer=np.array(
            [[slots if answer == NONE else answer for _, answer in pair] for pair in pairs], np.int32
        ),
    )
    return BehaviorBatch(
        rows=Rows(*(array.reshape(len(asked), 2, *array.shape[1:]) for array in rows)),
        kl_mask=np.ones((len(asked), 2), bool) if kl_mask is None else kl_mask,
        reference_hidden=np.array(hidden).astype(np.float32),
        answers=answers,
    )


def some_rows(seed=0, count=4):
    rng = np.random.default_rng([seed, 9])
    return stack_rows(
        [
            build_row(rng.integers(0, 8, 4 + i % 3).tolist(), [rng.integers(0, 8, 1 + i % 4).tolist()])
            for i in range(count)
        ],
        TIME,
    )


@functools.cache
def compiled(objective, config=CONFIG, gradient=False):
    def loss(variables, head, batch, both):
        return batch_loss(config, objective, variables, head, batch, both)

    return jax.jit(jax.value_and_grad(loss, has_aux=True) if gradient else loss)


def metrics_of(batch, objective=None, kl=1.0, shift=1.0):
    objective = objective or ObjectiveConfig(head_chunk=5)
    loss, metrics = compiled(objective)(CURRENT, REFERENCE_HEAD, batch, weights(kl, shift))
    assert float(loss) == float(metrics["loss"])
    return {name: float(value) for name, value in metrics.items()}


def gradient_of(batch, objective, kl=1.0, shift=1.0):
    run = compiled(objective, gradient=True)
    return run(CURRENT, REFERENCE_HEAD, batch, weights(kl, shift))[1]
