"""A reference model's hidden states where the KL term is taken, and log-probabilities of rows' targets."""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from introspection.models.decoder import count_parameters, forward
from introspection.models.head import head_matrix, target_logprobs
from introspection.models.model import Model
from introspection.probes.replies import Replies, prompts_of
from introspection.probes.scoring import (
    HEAD_CHUNK,
    ScoreRequest,
    exact_products,
    pad_requests,
    read_prompts,
)
from introspection.runtime.mesh import put_rows, row_parts
from introspection.runtime.processes import gather
from introspection.runtime.session import Session
from introspection.runtime.stopping import stop_if_asked
from introspection.tasks.items import Item, Prompt
from introspection.text.buckets import batches, score_shape
from introspection.text.rows import Rows, build_row, pad_time, stack_rows
from introspection.text.tokenizer import ChatTokenizer


def answer_hidden(
    model: Model,
    items: Sequence[Item],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "items 2 1 width"]:
    """The model's final hidden states at the answer positions of both prompts of every item; a prompt that
    several items share is read once.

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
    asked, places = distinct([p for item in items for p in prompts_of(item)])
    tokens = model.tokenizer.encode_prompts(asked)
    requests = [ScoreRequest(t, ()) for t in tokens]
    longest = score_shape(max(map(len, tokens)), 1, 1)
    parameters, hidden = count_parameters(model.variables), []
    for chunk, shape in batches(requests, longest, parameters, row_parts(session.mesh)):
        padded, lengths, _, _ = pad_requests(chunk, shape)
        stop_if_asked()
        hidden.append(
            gather(program(model.variables, *put_rows((padded, lengths), session.mesh)))[: len(chunk)]
        )
        progress(len(chunk))
    return np.concatenate(hidden)[places].reshape(len(items), 2, 1, -1)


def distinct(asked: Sequence[Hashable]) -> tuple[list[Any], list[int]]:
    """What is asked, each once, and the place there of everything asked."""
    places = {one: place for place, one in enumerate(dict.fromkeys(asked))}
    return list(places), [places[one] for one in asked]


def reply_rows(tokenizer: ChatTokenizer, items: Sequence[Item], replies: Sequence[Replies]) -> Rows:
    """Two rows per item, with and without the cue: the prompt and its reply."""
    return _rows(tokenizer, _prompts_and_replies(items, replies))


def _prompts_and_replies(
    items: Sequence[Item], replies: Sequence[Replies]
) -> list[tuple[Prompt, tuple[int, ...]]]:
    return [
        (prompt, reply.tokens)
        for item, both in zip(items, replies, strict=True)
        for prompt, reply in zip(prompts_of(item), both, strict=True)
    ]


def _rows(tokenizer: ChatTokenizer, said: Sequence[tuple[Prompt, Sequence[int]]]) -> Rows:
    encode = functools.partial(tokenizer.encode_prompt, through_thought=True)
    return stack_rows([build_row(encode(prompt), [tokens]) for prompt, tokens in said])


def reply_hidden(
    model: Model,
    items: Sequence[Item],
    replies: Sequence[Replies],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "items 2 scored width"]:
    """The model's final hidden states at every position that predicts a token of its replies; a prompt with
    its reply that several items share is read once.

    `progress` is called with prompts done.
    """
    asked, places = distinct(_prompts_and_replies(items, replies))
    hidden = scored_hidden(model, _rows(model.tokenizer, asked), session, progress)[places]
    return hidden.reshape(len(items), 2, *hidden.shape[1:])


def scored_hidden(
    model: Model, rows: Rows, session: Session, progress: Callable[[int], None] = lambda done: None
) -> Float[np.ndarray, "rows scored width"]:
    """The model's final hidden states at the scored positions of rows with one continuation each.

    `progress` is called with rows done.
    """
    config = model.config

    def read(variables, tokens, positions, segments, scored):
        hidden = forward(config, variables, tokens, positions, segments, branched=False).hidden
        return jnp.take_along_axis(hidden, scored[..., None], axis=1).astype(jnp.float32)

    program = session.programs.program("reply_hidden", config, lambda: read, data=(1,))
    row_shape = score_shape(rows.tokens.shape[-1], 1, 1)
    rows = pad_time(rows, row_shape.prompt_length)
    return read_rows(model, program, rows[:4], session, progress)


def row_logprobs(
    model: Model,
    rows: Rows,
    temperature: float,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> Float[np.ndarray, "rows scored targets"]:
    """The model's log-probabilities (nats) of every target of its rows at a temperature; 0 in padding.

    `progress` is called with rows done.
    """
    config = model.config.for_probes()

    def read(variables, tokens, positions, segments, scored, targets, continuation):
        hidden = forward(config, variables, tokens, positions, segments).hidden
        at = jnp.take_along_axis(hidden, scored[..., None], axis=1).reshape(-1, config.width)
        head, flat = head_matrix(variables, config), targets.reshape(-1, targets.shape[-1])
        found = target_logprobs(head, at, flat, HEAD_CHUNK, config.final_softcap, temperature)
        return jnp.where(continuation >= 0, found.reshape(targets.shape), 0.0)

    program = session.programs.program(
        "row_logprobs", (config, temperature), lambda: exact_products(read), data=(1, 5)
    )
    return read_rows(model, program, rows, session, progress)


def read_rows(
    model: Model,
    program: Callable,
    arrays: Sequence[np.ndarray],
    session: Session,
    progress: Callable[[int], None],
) -> np.ndarray:
    """What a program says of rows of one length, whose arrays it takes after the model's variables."""
    count, length = arrays[0].shape
    parameters, parts = count_parameters(model.variables), []
    row_shape = score_shape(length, 1, 1)
    for chunk, shape in batches(list(range(count)), row_shape, parameters, row_parts(session.mesh)):
        missing = shape.prompts - len(chunk)
        padded = [np.pad(a[chunk], ((0, missing), *[(0, 0)] * (a.ndim - 1))) for a in arrays]
        stop_if_asked()
        parts.append(gather(program(model.variables, *put_rows(padded, session.mesh)))[: len(chunk)])
        progress(len(chunk))
    return np.concatenate(parts)
