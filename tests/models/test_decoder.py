"""The decoder: what a token may see, and that every shortcut computes the same function."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_decoder import reference_hidden
from tiny import assert_trees_close, equations, mesh_of, random_tokens, tiny_config, tiny_variables

from introspection.errors import InputError
from introspection.models.attention import (
    PrefixBlock,
    attend,
    attend_block,
    row_ends,
    span_mask,
)
from introspection.models.config import ARCHITECTURES, PROJECTIONS, LoraConfig, ModelConfig
from introspection.models.decoder import Decoder, count_parameters, initialize
from introspection.models.head import head_matrix
from introspection.models.rotary import rotary_frequencies, rotate
from introspection.runtime.mesh import parameter_shardings
from introspection.text.rows import build_row, stack_rows

# A prompt of four tokens, continuations of two, one and three; padding between them and at the end.
SEGMENTS = np.array([0, 0, 0, 0, 1, 1, -1, 2, 3, 3, 3, -1])
POSITIONS = np.array([0, 1, 2, 3, 4, 5, 0, 4, 4, 5, 6, 0])


@functools.cache
def forward(config):
    def hidden(variables, tokens, positions, segments):
        return Decoder(config).apply(variables, tokens, positions, segments).hidden

    return jax.jit(hidden)


def plain(config, variables, tokens):
    """Final hidden states of plain sequences of one length."""
    tokens = jnp.atleast_2d(jnp.asarray(tokens))
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return forward(config)(variables, tokens, positions, jnp.zeros_like(tokens))


SWITCHES = ("zero_centered_norms", "post_norms", "qk_norm", "scale_embedding")


@pytest.mark.parametrize("changes", [*ARCHITECTURES.values(), *({name: True} for name in SWITCHES)])
def test_hidden_states_equal_the_reference(changes):
    config = tiny_config(tied_head=False, **changes)
    variables, tokens = tiny_variables(config), random_tokens(np.random.default_rng(0), 12)
    np.testing.assert_allclose(
        plain(config, variables, tokens)[0], reference_hidden(config, variables, tokens), atol=1e-4
    )


def test_gradients_reach_a_token_from_its_prompt_and_its_own_continuation_alone():
    config = tiny_config()
    variables, tokens = tiny_variables(config), np.arange(12)  # every token has an embedding row of its own

    def hidden(embedding):
        params = {**variables["params"], "embedding": embedding}
        return forward(config)(
            {"params": params}, jnp.array(tokens)[None], jnp.array(POSITIONS)[None], jnp.array(SEGMENTS)[None]
        )[0].sum(axis=-1)

    influence = np.abs(jax.jit(jax.jacrev(hidden))(variables["params"]["embedding"])).max(axis=-1)
    for query, segment in enumerate(SEGMENTS):
        for key, other in enumerate(SEGMENTS):
            sees = key <= query and other >= 0 and other in (0, segment)
            if segment >= 0 and sees:
                assert influence[query, key] > 1e-4, (query, key)
            elif segment >= 0:
                assert influence[query, key] == 0, (query, key)


def test_padding_and_the_rows_beside_have_no_influence():
    config, rng = tiny_config(), np.random.default_rng(1)
    variables = tiny_variables(config)
    tokens = rng.integers(0, config.vocab_size, (3, 12))
    positions, segments = np.tile(POSITIONS, (3, 1)), np.tile(SEGMENTS, (3, 1))
    real = SEGMENTS >= 0
    before = np.asarray(forward(config)(variables, tokens, positions, segments))
    tokens[:, ~real], positions[:, ~real] = 49, 33
    tokens[1:] = rng.integers(0, config.vocab_size, (2, 12))
    after = np.asarray(forward(config)(variables, tokens, positions, segments))
    np.testing.assert_array_equal(after[0, real], before[0, real])
    assert np.abs(after[1, real] - before[1, real]).min() > 0
    assert np.isfinite(after).all()


def test_a_tree_row_equals_plain_sequences():
    config, rng = tiny_config(), np.random.default_rng(2)
    variables = tiny_variables(config)
    prompt, continuations = random_tokens(rng, 4), [random_tokens(rng, n) for n in (3, 2, 4)]
    rows = stack_rows([build_row(prompt, continuations)], 12)
    hidden = forward(config)(variables, rows.tokens, rows.positions, rows.segments)[0]
    start = len(prompt)
    for continuation in continuations:
        read = continuation[:-1]
        expected = reference_hidden(config, variables, [*prompt, *read])
        np.testing.assert_allclose(hidden[: len(prompt)], expected[: len(prompt)], atol=1e-4)
        np.testing.assert_allclose(hidden[start : start + len(read)], expected[len(prompt) :], atol=1e-4)
        start += len(read)


def test_what_a_token_sees_is_as_in_the_docstrings():
    segments = jnp.array([[0, 0, 1, 1, 2, -1]])
    ends = row_ends(segments)
    assert ends[0].tolist() == [6, 6, 4, 4, 5, 0]
    mask = span_mask(ends)[0].astype(int)
    assert mask[3].tolist() == [1, 1, 1, 1, 0, 0]
    assert mask[4].tolist() == [1, 1, 0, 0, 1, 0]
    trees = span_mask(jnp.array([[7, 7, 4, 4, 7, 7, 7, 9, 9, 0]]), jnp.array([3, 6, 8]))[0].astype(int)
    assert trees.tolist() == [
        [1, 1, 1, 1, 0, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 1, 1, 0],
    ]


def test_an_unrolled_stack_equals_a_scanned_one():
    config = tiny_config()
    variables, tokens = tiny_variables(config), random_tokens(np.random.default_rng(3), 12)
    unrolled = tiny_config(scan_unroll=config.layers)
    np.testing.assert_allclose(
        plain(unrolled, variables, tokens), plain(config, variables, tokens), atol=1e-5
    )


def test_grouped_queries_equal_many_heads_with_repeated_keys():
    grouped = tiny_config()
    many = tiny_config(kv_heads=grouped.query_heads)
    variables, tokens = tiny_variables(grouped), random_tokens(np.random.default_rng(5), 12)
    layers = dict(variables["params"]["layers"])
    for name in ("key", "value"):
        kernel = layers[name]["kernel"].reshape(2, 16, grouped.kv_heads, grouped.head_dim)
        layers[name] = {"kernel": jnp.repeat(kernel, 2, axis=2).reshape(2, 16, -1)}
    repeated = {"params": {**variables["params"], "layers": layers}}
    np.testing.assert_allclose(plain(many, repeated, tokens), plain(grouped, variables, tokens), atol=1e-5)


def test_rotary_embeddings_depend_on_distance_alone():
    rng = np.random.default_rng(6)
    query, key = (jnp.array(rng.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in range(2))
    frequencies = rotary_frequencies(8, 100.0)

    def dot(query_position, key_position):
        turned = rotate(query, jnp.array([[query_position]]), frequencies)
        return float(jnp.sum(turned * rotate(key, jnp.array([[key_position]]), frequencies)))

    for distance in (0, 1, 5):
        assert dot(distance, 0) == pytest.approx(dot(distance + 9, 9), abs=1e-5)
    assert abs(dot(1, 0) - dot(2, 0)) > 1e-3
    assert abs(dot(1, 0) - dot(0, 1)) > 1e-3
    assert dot(0, 0) == pytest.approx(float(jnp.sum(query * key)), abs=1e-6)


def attention_case(seed, masked=None):
    """Two rows of one prefix each, three blocks of keys and what they hold; `masked` is hidden wholly."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return jnp.array(rng.normal(size=shape) * 2, jnp.float32)

    queries, keys, values = normal(4, 3, 4, 8), normal(4, 3, 2, 8), normal(4, 3, 2, 8)
    mask = jnp.tril(jnp.ones((3, 3), bool))[None].repeat(4, 0)
    blocks = []
    for prefixes, source in ((2, 5), (4, 4)):
        seen = jnp.array(rng.random((prefixes, source)) < 0.7)
        blocks.append((normal(prefixes, source, 2, 8), normal(prefixes, source, 2, 8), seen))
    if masked is not None:
        blocks[masked] = (*blocks[masked][:2], jnp.zeros_like(blocks[masked][2]))
    return (queries, keys, values), mask, blocks


@pytest.mark.parametrize("masked", [None, 0, 1])
def test_attention_over_blocks_equals_attention_over_all_keys_at_once(masked):
    (queries, keys, values), mask, blocks = attention_case(0, masked)
    masks = [block[2] for block in blocks]

    def in_blocks(queries, keys, values, block_arrays):
        places = [jnp.broadcast_to(jnp.arange(m.shape[1]), m.shape) for m in masks]
        prefixes = [PrefixBlock(*kv, m, p) for kv, m, p in zip(block_arrays, masks, places, strict=True)]
        return attend(queries, keys, values, mask, tuple(prefixes))

    def at_once(queries, keys, values, block_arrays):
        # Rows 0 and 1 share the first prefix, rows 2 and 3 the second.
        spread = [(k.repeat(4 // len(k), 0), v.repeat(4 // len(v), 0)) for k, v in block_arrays]
        seen = [jnp.broadcast_to(m.repeat(4 // len(m), 0)[:, None], (4, 3, m.shape[1])) for m in masks]
        output, _ = attend_block(
            queries,
            jnp.concatenate([k for k, _ in spread] + [keys], axis=1),
            jnp.concatenate([v for _, v in spread] + [values], axis=1),
            jnp.concatenate([*seen, mask], axis=-1),
        )
        return output

    arguments = (queries, keys, values, [block[:2] for block in blocks])

    def output_and_gradients(function):
        def loss(*arguments):
            output = function(*arguments)
            return jnp.sum(jnp.sin(output)), output

        (_, output), gradients = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))(*arguments)
        return output, gradients

    output, gradients = output_and_gradients(in_blocks)
    assert_trees_close((output, gradients), output_and_gradients(at_once), atol=1e-5)
    if masked is not None:
        assert all((leaf == 0).all() for leaf in gradients[3][masked])


def test_attention_of_one_block_is_the_softmax():
    (queries, keys, values), mask, _ = attention_case(1)
    output = np.asarray(attend(queries, keys, values, mask))
    for row, time, head in np.ndindex(4, 3, 4):
        logits = np.asarray(keys[row, : time + 1, head // 2] @ queries[row, time, head]) / np.sqrt(8)
        weights = np.exp(logits) / np.exp(logits).sum()
        expected = weights @ np.asarray(values[row, : time + 1, head // 2])
        np.testing.assert_allclose(output[row, time, head], expected, atol=1e-5)


def test_a_tied_head_is_the_embedding_and_an_untied_one_is_not():
    tied, untied = tiny_config(), tiny_config(tied_head=False)
    params, more = tiny_variables(tied)["params"], tiny_variables(untied)["params"]
    assert set(more) - set(params) == {"head"}
    assert head_matrix({"params": params}, tied) is params["embedding"]
    assert head_matrix({"params": more}, untied) is more["head"]
    assert count_parameters(more) - count_parameters(params) == untied.vocab_size * untied.width


TARGETS = [PROJECTIONS, ("query", "value"), ("down",)]


@pytest.mark.parametrize("targets", TARGETS, ids=len)
def test_adapters_start_as_the_base_and_equal_their_merged_weights(targets):
    adapted = tiny_config(lora=LoraConfig(rank=3, alpha=5.0, targets=targets))
    base = tiny_config()
    tokens = random_tokens(np.random.default_rng(7), 12)
    fresh = jax.jit(initialize, static_argnums=0)(adapted, jax.random.key(0))
    assert set(fresh["lora"]["layers"]) == set(targets)
    assert all((adapter["B"] == 0).all() for adapter in fresh["lora"]["layers"].values())
    for adapter in fresh["lora"]["layers"].values():
        assert adapter["A"].shape[-1] == 3
        assert np.abs(adapter["A"][0] - adapter["A"][1]).max() > 1e-3  # every layer has its own
        assert np.std(adapter["A"]) > 1e-2
    expected = plain(base, {"params": fresh["params"]}, tokens)
    np.testing.assert_allclose(plain(adapted, fresh, tokens), expected, atol=1e-5)

    trained = tiny_variables(adapted)
    layers = dict(trained["params"]["layers"])
    for name, adapter in trained["lora"]["layers"].items():
        update = 5.0 / 3 * jnp.einsum("lir,lro->lio", adapter["A"], adapter["B"])
        layers[name] = {"kernel": layers[name]["kernel"] + update}
    merged = {"params": {**trained["params"], "layers": layers}}
    outputs = plain(adapted, trained, tokens)
    np.testing.assert_allclose(outputs, plain(base, merged, tokens), atol=1e-4)
    assert np.abs(outputs - plain(base, {"params": trained["params"]}, tokens)).max() > 1e-2


def test_bfloat16_rounds_products_and_keeps_norms_and_softmax_in_float32():
    config = tiny_config(compute_dtype="bfloat16", remat="none")
    variables, tokens = tiny_variables(tiny_config()), random_tokens(np.random.default_rng(8), 12)
    rounded, exact = plain(config, variables, tokens), plain(tiny_config(), variables, tokens)
    assert rounded.dtype == jnp.bfloat16
    error = np.abs(rounded.astype(jnp.float32) - exact)
    assert 0 < error.mean() < 0.05
    places = jnp.arange(12)[None]
    jaxpr = jax.make_jaxpr(Decoder(config).apply)(variables, jnp.array([tokens]), places, 0 * places)
    dtypes = {}
    for equation in equations(jaxpr.jaxpr):
        if equation.primitive.name in ("exp", "rsqrt", "sin", "log", "dot_general"):
            dtypes.setdefault(equation.primitive.name, set()).add(str(equation.outvars[0].aval.dtype))
    assert dtypes.pop("dot_general") >= {"bfloat16", "float32"}  # projections; attention sums in float32
    assert dtypes.keys() >= {"exp", "rsqrt", "sin", "log"}
    assert all(found == {"float32"} for found in dtypes.values())


def test_a_config_of_eight_billion_parameters_needs_no_memory_to_be_looked_at():
    config = ModelConfig(
        vocab_size=128_256,
        width=4096,
        layers=32,
        query_heads=32,
        kv_heads=8,
        head_dim=128,
        mlp_width=14_336,
        context_length=8192,
        tied_head=False,
        remat="full",
        compute_dtype="bfloat16",
        lora=LoraConfig(16, 32.0),
    )
    variables = jax.eval_shape(functools.partial(initialize, config), jax.random.key(0))
    assert count_parameters(variables["params"]) == 8_030_261_248  # that of Llama 3.1 8B
    tokens = jax.ShapeDtypeStruct((2, 64), jnp.int32)
    out = jax.eval_shape(Decoder(config).apply, variables, tokens, tokens, tokens)
    assert out.hidden.shape == (2, 64, 4096)
    shardings = parameter_shardings(variables, mesh_of(1, 2, 2))
    kernel = variables["params"]["layers"]["gate"]["kernel"]
    sharding = shardings["params"]["layers"]["gate"]["kernel"]
    assert sharding.shard_shape(kernel.shape) == (32, 2048, 7168)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(query_heads=3), "must be a multiple"),
        (dict(head_dim=7), "even number"),
        (dict(remat="some"), "remat"),
    ],
)
def test_impossible_shapes_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        tiny_config(**changes)


def test_impossible_adapters_are_refused():
    with pytest.raises(InputError, match="rank"):
        LoraConfig(0, 1.0)
    with pytest.raises(InputError, match="head"):
        LoraConfig(1, 1.0, ("head",))
    with pytest.raises(InputError, match=r"lora.targets has \(\)"):
        LoraConfig(1, 1.0, ())
