"""What a program computes and sends is counted as often as its loops run."""

import jax
import jax.numpy as jnp
from tiny import mesh_of

from introspection.models import splash
from introspection.models.products import product
from introspection.runtime.collectives import collectives
from introspection.runtime.flops import matrix_flops

# As XLA writes it: two loops, one in the other, an asynchronous gather, and a loop with another condition.
PROGRAM = """
HloModule jit_step

%inner_body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %moved = (f32[8,4]{1,0:T(8,128)}, f32[8,4]{1,0}, u32[]) collective-permute-start(%x), channel_id=3
}

%inner_condition (p: (s32[], f32[8,4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(5), metadata={}
  %count = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %less = pred[]{:T(512)} compare(%count, %limit), direction=LT, metadata={}
}

%outer_body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %gathered = (bf16[2,4]{1,0}, bf16[8,4]{1,0}) all-gather-start(%y), dimensions={0}
  %again = (s32[], f32[8,4]) while(%t), condition=%inner_condition, body=%inner_body
}

%outer_condition (p: (s32[], f32[8,4])) -> pred[] {
  %limit.1 = s32[] constant(36)
  ROOT %less.1 = pred[] compare(%count.1, %limit.1), direction=LT
}

%unknown_condition (p: (s32[])) -> pred[] {
  ROOT %go = pred[] get-tuple-element(%p), index=0
}

ENTRY %main (a: f32[8,4]) -> f32[8,4] {
  %layers = (s32[], f32[8,4]) while(%t), condition=%outer_condition, body=%outer_body
  %some = (s32[], f32[8,4]) while(%t), condition=%unknown_condition, body=%inner_body
  %noted = (s32[]) while(%t), condition=%go, body=%inner_body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %sum = f32[8,4]{1,0} all-reduce(%z), to_apply=%add
}
"""


def test_collectives_count_as_often_as_their_loops_run():
    found = collectives(PROGRAM)
    assert found["all-gather"].calls == 36
    assert found["all-gather"].bytes == 36 * 8 * 4 * 2
    assert found["collective-permute"].calls == 36 * 5 + 1 + 3
    assert collectives(PROGRAM, unknown_trips=7)["collective-permute"].calls == 36 * 5 + 7 + 3
    assert found["all-reduce"].bytes == 8 * 4 * 4
    assert list(found) == ["all-gather", "all-reduce", "collective-permute"]


# As XLA writes what starts several at once: operands and results, each a tuple; an all-reduce, results alone.
COMBINED = """
ENTRY %main (a: bf16[2,4]) -> bf16[8,4] {
  %one = ((bf16[2,4]{1,0:T(8,128)(2,1)}, f32[4]{0}), (bf16[8,4]{1,0}, f32[16]{0})) all-gather-start(%a, %b)
  %two = (f32[8]{0}, f32[2,2]{1,0}) all-reduce-start(%c, %d), to_apply=%add
  %three = ((f32[8]{0}), f32[2]{0}, u32[]) reduce-scatter-start(%e), to_apply=%add
  ROOT %four = ((f32[3]{0}, f32[5]{0}), (f32[3]{0}, f32[5]{0}), u32[]) collective-permute-start(%f, %g)
}
"""


def test_of_what_starts_several_collectives_at_once_all_results_count_and_no_operand():
    sent = {kind: one.bytes for kind, one in collectives(COMBINED).items()}
    assert sent == {
        "all-gather": 8 * 4 * 2 + 16 * 4,
        "all-reduce": (8 + 4) * 4,
        "reduce-scatter": 2 * 4,
        "collective-permute": (3 + 5) * 4,
    }


# As libtpu writes one gather that goes on through a loop of eight products, from start to end.
CHAIN = """
%started (p: bf16[2,4]) -> bf16[8,4] {
  %gather.1 = bf16[8,4]{1,0} all-gather(%p), channel_id=384, frontend_attributes={chain_id="3"}
}

%carried (p: bf16[2,4]) -> bf16[8,4] {
  %gather.2 = bf16[8,4]{1,0} all-gather(%p), channel_id=384, frontend_attributes={chain_id="3"}
}

%ended (p: bf16[2,4]) -> bf16[8,4] {
  %gather.3 = bf16[8,4]{1,0} all-gather(%p), channel_id=384, frontend_attributes={chain_id="3"}
}

%products (p: (s32[])) -> (s32[]) {
  %fusion.7 = bf16[8,4]{1,0} fusion(%y), kind=kCustom, calls=%carried
}

ENTRY %main (a: bf16[2,4]) -> bf16[8,4] {
  %async-collective-start.1 = bf16[8,4]{1,0} fusion(%a), kind=kCustom, calls=%started
  %loop = (s32[]) while(%t), condition=%go, body=%products, backend_config={"known_trip_count":{"n":"8"}}
  ROOT %async-collective-done.1 = bf16[8,4]{1,0} fusion(%b), kind=kCustom, calls=%ended
}
"""


def test_a_collective_that_is_carried_through_a_chain_of_fusions_counts_once():
    gather = collectives(CHAIN)["all-gather"]
    assert (gather.calls, gather.bytes) == (1, 8 * 4 * 2)
    unknown_start = CHAIN.replace("async-collective-start.1", "fusion.1")
    assert collectives(unknown_start)["all-gather"].calls == 10  # rather too many than none


def test_operations_count_as_often_as_their_loops_run():
    def layers(x):
        return jnp.sum(jax.lax.scan(lambda x, _: (x @ x, None), x, None, length=7)[0])

    def until(x):
        return jax.lax.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + 1, s[1] @ s[1]), (0, x))

    x, product = jnp.ones((8, 8)), 2 * 8**3
    assert matrix_flops(jax.make_jaxpr(layers)(x)) == 7 * product
    assert matrix_flops(jax.make_jaxpr(jax.grad(layers))(x)) == 3 * 7 * product
    assert matrix_flops(jax.make_jaxpr(until)(x), steps=9) == 9 * product


def test_operations_of_a_kernel_are_of_all_blocks_heads_and_devices():
    def attended(queries, keys):
        return splash.row_attention(queries, keys, keys, jnp.full((4, 1024), 1024)).sum()

    queries, keys = jnp.ones((4, 1024, 2, 128)), jnp.ones((4, 1024, 1, 128))
    with jax.set_mesh(mesh_of(fsdp=2, tensor=1)):
        counted = matrix_flops(jax.make_jaxpr(attended)(queries, keys))
    assert counted == 4 * 2 * (2 * 2 * 1024 * 1024 * 128) / 2  # rows, heads; two products, causal


def test_operations_that_nothing_uses_do_not_count():
    def frozen(x, layers):
        return jnp.sum(jax.lax.scan(lambda x, w: (product(x, w), None), x, layers)[0])

    x, layers = jnp.ones((1, 8, 8)), jnp.ones((7, 8, 8))
    of_input = matrix_flops(jax.make_jaxpr(jax.grad(frozen))(x, layers))
    assert of_input == 7 * 2 * 8**3  # the way back alone: the last value is not asked for
    assert matrix_flops(jax.make_jaxpr(jax.grad(frozen, (0, 1)))(x, layers)) == 3 * of_input
