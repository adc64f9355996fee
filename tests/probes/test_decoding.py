"""Greedy decoding says what a full forward at every step would say."""

import dataclasses
import functools

import chat_templates
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from chat_tokenizers import pretrained
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from reference_decoder import log_softmax, reference_logits
from small_tokenizers import byte_level
from tiny import mesh_of, random_tokens, task_model, tiny_config, tiny_model, tiny_task, tiny_variables

from introspection.models.config import LoraConfig
from introspection.models.decoder import count_parameters
from introspection.probes import decoding
from introspection.probes.decoding import Decoded, decode, end_tokens, greedy_decode
from introspection.probes.explanation import decode_explanations
from introspection.runs.planned_programs import placed
from introspection.runtime.collectives import collectives
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.mesh import ROW_AXES, put_parameters
from introspection.runtime.session import Session
from introspection.tasks.items import INVALID, Explanation
from introspection.text import buckets

PROGRAMS = ProgramTable()
MAX_TOKENS = 5


@pytest.fixture(autouse=True, scope="module")
def small_batches():
    """Eight prompts a batch: several batches of one shape without many prompts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "BATCH_TOKENS", 64)
        yield


def naive_decode(model, prompt, max_tokens=MAX_TOKENS):
    tokens, logprobs = [], []
    while len(tokens) < max_tokens and not {*end_tokens(model.tokenizer)} & {*tokens}:
        row = log_softmax(reference_logits(model.config, model.variables, [*prompt, *tokens])[-1])
        tokens.append(int(row.argmax()))
        logprobs.append(float(row.max()))
    return Decoded(tuple(tokens), tuple(logprobs))


@functools.cache
def ending_model(seed=0, **changes):
    """A tiny model that often says the end token, so that replies have many lengths."""
    model = tiny_model(seed, **changes)
    embedding = model.variables["params"]["embedding"]
    end = embedding[model.tokenizer.end_id]
    params = {**model.variables["params"], "embedding": embedding.at[model.tokenizer.end_id].set(1.4 * end)}
    return model.with_variables({**model.variables, "params": params})


def some_prompts(count=20, seed=0):
    rng = np.random.default_rng(seed)
    return [random_tokens(rng, int(rng.integers(1, 9))) for _ in range(count)]


def decode_here(model, prompts, max_tokens=MAX_TOKENS, programs=PROGRAMS, mesh=None):
    return decode(model, prompts, max_tokens, Session(mesh or mesh_of(), programs))


def assert_same_replies(replies, expected):
    for reply, other in zip(replies, expected, strict=True):
        assert reply.tokens == other.tokens
        np.testing.assert_allclose(reply.logprobs, other.logprobs, atol=1e-4)


def test_replies_equal_those_of_a_full_forward_at_every_step():
    model, prompts = ending_model(), some_prompts()
    expected = [naive_decode(model, prompt) for prompt in prompts]
    lengths = {len(reply.tokens) for reply in expected}
    assert {1, MAX_TOKENS} < lengths  # some end at once, some not at all, some between
    assert_same_replies(decode_here(model, prompts), expected)


def test_longer_prompts_and_adapters_decode_as_well():
    model = ending_model(lora=LoraConfig(2, 4.0, ("query", "value", "up")))
    prompts = [random_tokens(np.random.default_rng(1), length) for length in (9, 12)]
    assert_same_replies(decode_here(model, prompts), [naive_decode(model, prompt) for prompt in prompts])


def test_a_reply_is_the_same_alone_in_any_batch_and_in_any_order():
    model, prompts = ending_model(), some_prompts()
    together = decode_here(model, prompts)
    assert_same_replies(decode_here(model, prompts[::-1])[::-1], together)
    for i in (0, 7, 19):
        assert_same_replies(decode_here(model, [prompts[i]]), [together[i]])


@pytest.mark.parametrize(
    "sizes", [(4, 1, 1), (1, 2, 2), pytest.param((1, 1, 4), marks=pytest.mark.slow)], ids=str
)
def test_replies_are_the_same_on_every_mesh(sizes):
    model, mesh, prompts = ending_model(), mesh_of(*sizes), some_prompts(10)
    placed = model.with_variables(put_parameters(model.variables, mesh))
    expected = [naive_decode(model, prompt) for prompt in prompts]
    assert_same_replies(decode_here(placed, prompts, mesh=mesh), expected)


@pytest.mark.parametrize("sizes", [(1, 4, 1), (2, 2, 1)], ids=str)
def test_a_token_moves_activations_between_devices_and_no_matrices(sizes):
    config, mesh, rows = tiny_config(width=64, mlp_width=256, lora=LoraConfig(2, 4.0)), mesh_of(*sizes), 8
    variables = placed(jax.eval_shape(lambda: tiny_variables(config)), mesh)
    by_row = NamedSharding(mesh, P(ROW_AXES))
    shapes = ((rows, 8), jnp.int32), ((rows,), jnp.int32), ((rows,), jnp.bool_)
    arrays = [jax.ShapeDtypeStruct(*shape, sharding=by_row) for shape in shapes]

    def received(tokens):
        decode = functools.partial(greedy_decode, config, end_ids=(0,), max_tokens=tokens)
        with jax.set_mesh(mesh):
            program = jax.jit(decode).lower(variables, *arrays).compile()
        return sum(one.bytes for one in collectives(program.as_text(), tokens).values())

    matrices = 4 * count_parameters(variables["params"]["layers"])  # bytes
    a_token = (received(6) - received(2)) / 4
    assert 0 < a_token < 0.25 * matrices


def test_decoding_compiles_once_a_bucket_for_every_checkpoint():
    programs = ProgramTable()
    for seed in (0, 1):
        decode_here(ending_model(seed), some_prompts(10), programs=programs)
        decode_here(ending_model(seed), some_prompts(1), programs=programs)
    assert programs.count("greedy_decode") == 1


def always(token, model):
    """The model with a final norm and embedding that make it say `token` after everything."""
    params = dict(model.variables["params"])
    embedding = np.zeros_like(params["embedding"])
    embedding[:, 0] = 1.0  # the residual stream is about this everywhere
    embedding[token, 0] = 9.0
    layers = {
        name: {"kernel": np.zeros_like(leaf["kernel"])} if "kernel" in leaf else leaf
        for name, leaf in params["layers"].items()
    }
    final = {"scale": np.ones_like(params["final_norm"]["scale"])}
    return model.with_variables({"params": dict(embedding=embedding, layers=layers, final_norm=final)})


@pytest.fixture(scope="module")
def counted_decode():
    """Decodes one prompt to at most 9 tokens; returns the steps that the loop took and the reply."""
    steps, real, programs = [], decoding.jax.lax.while_loop, ProgramTable()

    def counting(condition, body, state):
        final = real(condition, body, state)
        decoding.jax.debug.callback(lambda step: steps.append(int(step)), final.step)
        return final

    def run(model, prompt):
        steps.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding.jax.lax, "while_loop", counting)
            (reply,) = decode(model, [prompt], 9, Session(mesh_of(), programs))
        decoding.jax.effects_barrier()
        (taken,) = steps
        return taken, reply.tokens

    return run


def test_the_loop_stops_when_every_reply_has_ended(counted_decode):
    model = tiny_model()
    end = model.tokenizer.end_id
    assert counted_decode(always(end, model), [5, 6]) == (1, (end,))
    assert counted_decode(always(8, model), [5, 6]) == (9, (8,) * 9)


def test_the_loop_does_not_wait_for_the_rows_that_fill_the_batch(counted_decode):
    model = ending_model()
    assert len(naive_decode(model, [0]).tokens) > 1  # what the rows that fill the batch would say
    prompt = next(p for p in some_prompts() if len(naive_decode(model, p).tokens) == 1)
    assert counted_decode(model, prompt) == (1, (model.tokenizer.end_id,))


def test_replies_beside_one_that_goes_on_keep_their_length():
    model, prompts = ending_model(), some_prompts()
    replies = decode_here(model, prompts)
    end = model.tokenizer.end_id
    assert {len(reply.tokens) for reply in replies} > {1, MAX_TOKENS}
    for reply in replies:
        assert end not in reply.tokens[:-1]
        assert reply.tokens[-1] == end or len(reply.tokens) == MAX_TOKENS
        assert len(reply.logprobs) == len(reply.tokens)


@functools.cache
def chat_model():
    """A tiny model whose family ends with `<|im_end|>` and also stops at `<|endoftext|>`, often."""
    tokenizer = pretrained(byte_level(), chat_templates.QWEN25, {"eos_token": "<|endoftext|>"})
    model = tiny_model(vocab_size=tokenizer.vocab_size)
    params, (stop,) = model.variables["params"], tokenizer.stop_ids
    ends = {tokenizer.end_id: 1.3, stop: 1.5}
    embedding = params["embedding"]
    for token, times in ends.items():
        embedding = embedding.at[token].multiply(times)
    model = dataclasses.replace(model, tokenizer=tokenizer)
    return model.with_variables({"params": {**params, "embedding": embedding}})


def test_a_reply_ends_at_any_token_that_the_models_family_stops_at():
    model, prompts = chat_model(), some_prompts(40, seed=3)
    end, (stop,) = model.tokenizer.end_id, model.tokenizer.stop_ids
    replies = decode_here(model, prompts, 9)
    assert {(reply.tokens[-1], len(reply.tokens) < 9) for reply in replies} >= {(end, True), (stop, True)}
    assert_same_replies(replies, [naive_decode(model, prompt, 9) for prompt in prompts])


def test_a_shorter_limit_cuts_the_same_reply():
    model, prompts = ending_model(), some_prompts(6)
    for longer, shorter in zip(decode_here(model, prompts), decode_here(model, prompts, 2), strict=True):
        assert shorter.tokens == longer.tokens[:2]


def saying(model, text, monkeypatch, ended=True):
    """Makes every reply of `decode_explanations` read `text`."""
    tokens = tuple(model.tokenizer.encode_reply(text))
    reply = Decoded(tokens if ended else tokens[:-1], (0.0,) * len(tokens))
    monkeypatch.setattr(
        "introspection.probes.explanation.decode", lambda model, prompts, *rest: [reply] * len(prompts)
    )


def test_a_reply_without_an_end_is_invalid_however_it_starts(monkeypatch):
    model, task = task_model(), tiny_task()
    item = task.splits["test"][0]
    sentence = task.grammar.render(Explanation(True, item.candidates[1]))
    for ended, expected in ((True, Explanation(True, item.candidates[1])), (False, INVALID)):
        saying(model, sentence, monkeypatch, ended)
        (result,) = decode_explanations(model, [item], task.grammar, 6, Session(mesh_of()))
        assert result == (sentence, expected)


def test_an_explanation_is_what_follows_a_thought_of_its_own(monkeypatch):
    model, task = chat_model(), tiny_task()
    item = task.splits["test"][0]
    other, said = (Explanation(changed, item.candidates[2]) for changed in (True, False))
    text = f"<think>\n{task.grammar.render(other)}\n</think>\n\n{task.grammar.render(said)}"
    tokens = (*model.tokenizer.tokenizer.encode(text).ids, model.tokenizer.end_id)
    reply = Decoded(tokens, (0.0,) * len(tokens))
    monkeypatch.setattr("introspection.probes.explanation.decode", lambda *rest: [reply])
    (result,) = decode_explanations(model, [item], task.grammar, 60, Session(mesh_of()))
    assert result == (text, said)


def test_an_explanation_may_end_as_the_models_family_does(monkeypatch):
    model, task = chat_model(), tiny_task()
    item, (stop,) = task.splits["test"][0], model.tokenizer.stop_ids
    said = Explanation(False, item.candidates[2])
    tokens = tuple(model.tokenizer.encode_reply(task.grammar.render(said)))
    for last, expected in ((model.tokenizer.end_id, said), (stop, said), (5, INVALID)):
        reply = Decoded((*tokens[:-1], last), (0.0,) * len(tokens))
        monkeypatch.setattr("introspection.probes.explanation.decode", lambda *rest, reply=reply: [reply])
        ((_, explanation),) = decode_explanations(
            model, [item], task.grammar, 99, Session(mesh_of(), PROGRAMS)
        )
        assert explanation == expected


def test_decoded_explanations_are_parsed_replies_to_the_question():
    model, task = task_model(), tiny_task()
    items = task.splits["test"][:3]
    results = decode_explanations(model, items, task.grammar, 3, Session(mesh_of(), PROGRAMS))
    for item, (text, explanation) in zip(items, results, strict=True):
        prompt = model.tokenizer.encode_prompt(f"{item.prompt_with_cue} {task.grammar.question}")
        reply = naive_decode(model, prompt, 3)
        assert text == model.tokenizer.decode(reply.tokens)
        ended = reply.tokens[-1] == model.tokenizer.end_id
        assert explanation == (task.grammar.parse(text) if ended else INVALID)


def test_replies_are_float32_where_training_is_not(monkeypatch):
    model, prompts = ending_model(), some_prompts()
    expected = decode_here(model, prompts)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(buckets, "ACCELERATOR_BATCH_TOKENS", 64)
    assert model.config.dtype == jax.numpy.bfloat16
    assert decode_here(model, prompts, programs=ProgramTable()) == expected


@pytest.mark.slow
def test_replies_are_the_same_in_fewer_and_longer_rows(monkeypatch):
    model, rng = ending_model(), np.random.default_rng(11)
    prompts = [random_tokens(rng, int(rng.integers(1, 13))) for _ in range(45)]
    monkeypatch.setattr(buckets, "BATCH_TOKENS", 640)
    full, programs = decode(model, prompts, MAX_TOKENS, Session(mesh_of(), PROGRAMS)), ProgramTable()
    monkeypatch.setattr(buckets, "LEAST_BATCH_FLOPS", 1)
    replies = decode(model, prompts, MAX_TOKENS, Session(mesh_of(), programs))
    assert [reply.tokens for reply in replies] == [reply.tokens for reply in full]
    assert [shapes for _, shapes, _, _ in programs.rows()] == ["32×12", "8×12"]
