"""Generated behaviour in training: rows of the reference's replies, and its hidden states along them."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from introspection.models.decoder import Decoder, count_parameters
from introspection.models.model import Model
from introspection.probes.readout import Replies
from introspection.runtime.mesh import put_rows, row_parts
from introspection.runtime.programs import ProgramTable
from introspection.tasks.items import Item
from introspection.text.buckets import batches, score_shape
from introspection.text.rows import Rows, build_row, pad_time, stack_rows
from introspection.text.tokenizer import ChatTokenizer
from introspection.training.objectives import ReplyBatch


def reply_rows(tokenizer: ChatTokenizer, items: Sequence[Item], replies: Sequence[Replies]) -> Rows:
    """Two rows an item, with the cue and without: the prompt and what was said to it."""
    return stack_rows(
        [
            build_row(tokenizer.encode_prompt(prompt), [reply.tokens])
            for item, both in zip(items, replies, strict=True)
            for prompt, reply in zip((item.prompt_with_cue, item.prompt_without_cue), both, strict=True)
        ]
    )


def reply_hidden(
    model: Model,
    items: Sequence[Item],
    replies: Sequence[Replies],
    programs: ProgramTable,
    mesh: jax.sharding.Mesh,
) -> Float[np.ndarray, "items 2 scored width"]:
    """The model's final hidden states wherever a token of its replies is said."""
    config, rows = model.config, reply_rows(model.tokenizer, items, replies)

    def read(variables, tokens, positions, segments, scored):
        hidden = Decoder(config).apply(variables, tokens, positions, segments).hidden
        return jnp.take_along_axis(hidden, scored[..., None], axis=1).astype(jnp.float32)

    program = programs.program("reply_hidden", config, lambda: read, data=(1,))
    row_shape = score_shape(rows.tokens.shape[-1], 1, 1)
    rows = pad_time(rows, row_shape.prompt_length)
    arrays = (rows.tokens, rows.positions, rows.segments, rows.scored)
    parameters, parts = count_parameters(model.variables), []
    for chunk, shape in batches(range(2 * len(items)), row_shape, parameters, row_parts(mesh)):
        missing = shape.prompts - len(chunk)
        padded = [np.pad(array[chunk.start : chunk.stop], ((0, missing), (0, 0))) for array in arrays]
        parts.append(np.asarray(program(model.variables, *put_rows(padded, mesh)))[: len(chunk)])
    hidden = np.concatenate(parts)
    return hidden.reshape(len(items), 2, *hidden.shape[1:])


def reply_batch(
    tokenizer: ChatTokenizer,
    items: Sequence[Item],
    replies: Sequence[Replies],
    hidden: Float[np.ndarray, "items 2 scored width"],
    held: Bool[np.ndarray, "items 2"],
) -> ReplyBatch:
    """Every item's two prompts with kl_reference's replies; the KL term holds those of `held`."""
    rows = reply_rows(tokenizer, items, replies)
    return ReplyBatch(
        rows=Rows(*(array.reshape(len(items), 2, *array.shape[1:]) for array in rows)),
        kl_mask=held,
        reference_hidden=hidden.astype(np.float32),
    )
