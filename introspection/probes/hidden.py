"""A reference model's hidden states at the positions of the KL term."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from introspection.models.decoder import count_parameters, forward
from introspection.models.model import Model
from introspection.probes.replies import Replies
from introspection.probes.scoring import ScoreRequest, pad_requests, read_prompts
from introspection.runtime.mesh import put_rows, row_parts
from introspection.runtime.session import Session
from introspection.tasks.items import Item
from introspection.text.buckets import batches, score_shape
from introspection.text.rows import Rows, build_row, pad_time, stack_rows
from introspection.text.tokenizer import ChatTokenizer


def answer_hidden(
    model: Model,
    items: Sequence[Item],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "items 2 1 width"]:
    """The model's final hidden states at the answer positions of both prompts of every item.

    `progress` is called with prompts done.
    """
    config = model.config
    program = session.programs.program(
        "answer_hidden",
        config,
        lambda: (
            lambda variables, prompts, lengths: read_prompts(
                config, variables, prompts, lengths
            ).last_hidden.astype(jnp.float32)
        ),
        data=(1,),
    )
    prompts = [p for item in items for p in (item.prompt_with_cue, item.prompt_without_cue)]
    tokens = model.tokenizer.encode_prompts(prompts)
    requests = [ScoreRequest(t, ()) for t in tokens]
    longest = score_shape(max(map(len, tokens)), 1, 1)
    parameters, hidden = count_parameters(model.variables), []
    for chunk, shape in batches(requests, longest, parameters, row_parts(session.mesh)):
        padded, lengths, _, _ = pad_requests(chunk, shape)
        hidden.append(
            np.asarray(program(model.variables, *put_rows((padded, lengths), session.mesh)))[: len(chunk)]
        )
        progress(len(chunk))
    return np.concatenate(hidden).reshape(len(items), 2, 1, -1)


def reply_rows(tokenizer: ChatTokenizer, items: Sequence[Item], replies: Sequence[Replies]) -> Rows:
    """Two rows per item, with and without the cue: the prompt and its reply."""
    return stack_rows(
        [
            build_row(tokenizer.encode_prompt(prompt, through_thought=True), [reply.tokens])
            for item, both in zip(items, replies, strict=True)
            for prompt, reply in zip((item.prompt_with_cue, item.prompt_without_cue), both, strict=True)
        ]
    )


def reply_hidden(
    model: Model,
    items: Sequence[Item],
    replies: Sequence[Replies],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "items 2 scored width"]:
    """The model's final hidden states at every position that predicts a token of its replies.

    `progress` is called with prompts done.
    """
    config, rows = model.config, reply_rows(model.tokenizer, items, replies)

    def read(variables, tokens, positions, segments, scored):
        hidden = forward(config, variables, tokens, positions, segments).hidden
        return jnp.take_along_axis(hidden, scored[..., None], axis=1).astype(jnp.float32)

    program = session.programs.program("reply_hidden", config, lambda: read, data=(1,))
    row_shape = score_shape(rows.tokens.shape[-1], 1, 1)
    rows = pad_time(rows, row_shape.prompt_length)
    arrays = (rows.tokens, rows.positions, rows.segments, rows.scored)
    parameters, parts = count_parameters(model.variables), []
    for chunk, shape in batches(list(range(2 * len(items))), row_shape, parameters, row_parts(session.mesh)):
        missing = shape.prompts - len(chunk)
        padded = [np.pad(array[chunk], ((0, missing), (0, 0))) for array in arrays]
        parts.append(np.asarray(program(model.variables, *put_rows(padded, session.mesh)))[: len(chunk)])
        progress(len(chunk))
    hidden = np.concatenate(parts)
    return hidden.reshape(len(items), 2, *hidden.shape[1:])
