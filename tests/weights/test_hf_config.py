"""config.json of published models: read in both layouts, written back, refused by name where it must be."""

import functools
import json

import jax
import pytest
from hub_configs import HUB_CONFIGS, newer_layout
from tiny import tiny_config

from introspection.errors import InputError
from introspection.models.config import ARCHITECTURES, LoraConfig, RopeScaling
from introspection.models.decoder import count_parameters, initialize
from introspection.weights.hf_config import hf_config, model_config

# Parameters as the publishers count them.
PARAMETERS = {
    "Llama-2-7b": 6_738_415_616,
    "Llama-3.1-8B": 8_030_261_248,
    "Llama-3.2-1B": 1_235_814_400,
    "SmolLM2-135M": 134_515_008,
    "Mistral-7B-v0.1": 7_241_732_096,
    "Mistral-7B-v0.3": 7_248_023_552,
    "Qwen2.5-0.5B": 494_032_768,
    "Qwen3-8B": 8_190_735_360,
    "gemma-2-2b": 2_614_341_888,
    "gemma-2-27b": 27_227_128_320,
    "gemma-3-1b": 999_885_952,
}
GEMMA = dict(
    activation="gelu", zero_centered_norms=True, post_norms=True, scale_embedding=True, tied_head=True
)
# What each switches on, beside its sizes.
EXPECTED = {
    "Llama-2-7b": dict(rope_base=10_000.0, tied_head=False, norm_epsilon=1e-5, kv_heads=32, head_dim=128),
    "Llama-3.1-8B": dict(rope_base=500_000.0, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 8192)),
    "Llama-3.2-1B": dict(
        rope_scaling=RopeScaling("llama3", 32.0, 1.0, 4.0, 8192), tied_head=True, head_dim=64
    ),
    "SmolLM2-135M": dict(rope_base=100_000.0, tied_head=True, head_dim=64, query_heads=9, kv_heads=3),
    "Mistral-7B-v0.1": dict(window=4096, windowed_layers=(), context_length=32_768, tied_head=False),
    "Mistral-7B-v0.3": dict(window=0, rope_base=1_000_000.0),
    "Qwen2.5-0.5B": dict(qkv_bias=True, qk_norm=False, window=0, tied_head=True, head_dim=64),
    "Qwen3-8B": dict(qkv_bias=False, qk_norm=True, window=0, tied_head=False, head_dim=128),
    "gemma-2-2b": dict(
        **GEMMA,
        attention_softcap=50.0,
        final_softcap=30.0,
        query_scale=None,  # 256^-1/2 is head_dim^-1/2
        window=4096,
        windowed_layers=(True, False) * 13,
        qk_norm=False,
    ),
    "gemma-2-27b": dict(**GEMMA, query_scale=1 / 12, head_dim=128, windowed_layers=(True, False) * 23),
    "gemma-3-1b": dict(
        **GEMMA,
        qk_norm=True,
        attention_softcap=None,
        final_softcap=None,
        window=512,
        windowed_layers=((True,) * 5 + (False,)) * 4 + (True, True),
        rope_base=1_000_000.0,
        local_rope_base=10_000.0,
    ),
}
everyone = pytest.mark.parametrize("name", HUB_CONFIGS)


def read(name, **changes):
    return model_config(HUB_CONFIGS[name] | changes, "config.json")


@everyone
def test_both_layouts_of_a_published_config_are_the_same_decoder_of_its_size(name):
    config = read(name)
    assert model_config(newer_layout(HUB_CONFIGS[name]), "config.json") == config
    for field, value in EXPECTED[name].items():
        assert getattr(config, field) == value, field
    hash(config)  # programs are kept by it
    variables = jax.eval_shape(functools.partial(initialize, config), jax.random.key(0))
    assert count_parameters(variables["params"]) == PARAMETERS[name]


@everyone
def test_a_written_config_is_read_as_what_it_was_written_from(name):
    config = read(name)
    written = json.loads(json.dumps(hf_config(config, "bfloat16", eos_token_id=7)))
    assert model_config(written, "config.json") == config
    # Without a window, a Mistral is a Llama.
    expected = "llama" if name == "Mistral-7B-v0.3" else HUB_CONFIGS[name]["model_type"]
    assert written["model_type"] == expected
    assert (written["dtype"], written["eos_token_id"]) == ("bfloat16", 7)
    del written["rope_parameters"]  # for programs that know the older layout alone
    assert model_config(written, "config.json") == config


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_organism_can_be_written_for_transformers(architecture):
    config = tiny_config(**ARCHITECTURES[architecture], lora=LoraConfig(2, 4.0), remat="full")
    written = hf_config(config)
    assert written["model_type"] == {"llama": "llama", "gemma": "gemma3_text"}[architecture]
    assert model_config(written, "config.json") == tiny_config(**ARCHITECTURES[architecture])


def test_overrides_are_fields_of_the_config():
    config = model_config(HUB_CONFIGS["SmolLM2-135M"], "config.json", remat="full", context_length=512)
    assert (config.remat, config.context_length, config.layers) == ("full", 512, 30)


def test_windows_of_qwen_are_in_the_layers_that_its_config_names():
    windows = dict(use_sliding_window=True, sliding_window=128)
    by_count = read("Qwen2.5-0.5B", **windows, max_window_layers=20)
    assert (by_count.window, by_count.windowed_layers) == (128, (False,) * 20 + (True,) * 4)
    types = ["sliding_attention", "full_attention"] * 12
    by_name = read("Qwen2.5-0.5B", **windows, layer_types=types)
    assert (by_name.window, by_name.windowed_layers) == (128, (True, False) * 12)
    assert read("Qwen2.5-0.5B", **windows, max_window_layers=0).windowed_layers == ()  # all
    assert read("Qwen2.5-0.5B", **windows, max_window_layers=24).window == 0
    for config in (by_count, by_name):
        assert model_config(hf_config(config), "config.json") == config


def test_gemma_3_scales_the_frequencies_of_its_full_layers_alone():
    config = read("gemma-3-1b", rope_scaling={"rope_type": "linear", "factor": 8.0})
    assert config.rope_scaling == RopeScaling("linear", 8.0)
    assert config.local_rope_base == 10_000.0
    assert model_config(hf_config(config), "config.json") == config


def test_what_a_missing_key_means_is_what_it_means_to_transformers():
    fields = dict(HUB_CONFIGS["gemma-2-2b"])
    for key in ("attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "head_dim"):
        del fields[key]
    assert model_config(fields, "config.json") == read("gemma-2-2b")
    assert read("gemma-2-2b", final_logit_softcapping=None).final_softcap is None
    first_llama = dict(HUB_CONFIGS["Llama-2-7b"])
    del first_llama["num_key_value_heads"]
    assert model_config(first_llama, "config.json") == read("Llama-2-7b")
    mistral = dict(HUB_CONFIGS["Mistral-7B-v0.1"])
    del mistral["sliding_window"]
    assert model_config(mistral, "config.json").window == 4096
    assert read("Mistral-7B-v0.1", sliding_window=None).window == 0
    qwen = {**HUB_CONFIGS["Qwen2.5-0.5B"], "use_sliding_window": True, "max_window_layers": 20}
    del qwen["sliding_window"]
    assert model_config(qwen, "config.json").window == 4096
    # A base beside rope_parameters is theirs where they have none.
    gemma = {**HUB_CONFIGS["gemma-3-1b"], "rope_theta": 5e5, "rope_local_base_freq": 2e4}
    kinds = ("full_attention", "sliding_attention")
    gemma["rope_parameters"] = {kind: {"rope_type": "default"} for kind in kinds}
    read_gemma = model_config(gemma, "config.json")
    assert (read_gemma.rope_base, read_gemma.local_rope_base) == (5e5, 2e4)


REFUSED = [
    ("Llama-2-7b", dict(model_type="mixtral"), "model_type 'mixtral' is not supported; .* llama, mistral"),
    ("gemma-3-1b", dict(model_type="gemma3"), "model_type 'gemma3' .* text_config"),
    ("Llama-2-7b", dict(hidden_act=["silu"]), "hidden_act .'silu'. is not supported"),
    ("Llama-2-7b", dict(rms_norm_eps=10**400), "rms_norm_eps is 1000*…; it must be a number"),
    ("Llama-2-7b", dict(rms_norm_eps=-1e-6), "norm_epsilon is -1e-06; it must be above 0"),
    ("Llama-2-7b", dict(rope_theta=0), "rope_base is 0.0; it must be above 0"),
    ("gemma-3-1b", dict(rope_scaling="linear"), "rope parameters are 'linear'"),
    ("gemma-3-1b", dict(rope_scaling=[2.0]), "rope parameters are .2.0."),
    (
        "gemma-3-1b",
        dict(rope_theta=5e5, rope_parameters={"full_attention": {"rope_theta": 1e6}}),
        "rope_theta is 500000.0, but 1000000.0 in rope_parameters; keep one",
    ),
    ("Llama-2-7b", dict(model_type=None), "model_type None is not supported"),
    ("Llama-2-7b", dict(model_type=["llama"]), "model_type .'llama'. is not supported"),
    ("gemma-2-2b", dict(layer_types=5), "layer_types is 5; each of 26 layers"),
    ("gemma-2-2b", dict(layer_types=[["full_attention"]] * 26), "layer_types is"),
    (
        "Llama-2-7b",
        dict(rope_theta=1e6, rope_parameters={"rope_type": "default", "rope_theta": 1e4}),
        "rope_theta is 1000000.0, but 10000.0 in rope_parameters; keep one",
    ),
    ("Llama-2-7b", dict(rope_scaling={"type": "yarn", "factor": 2.0}), "rope_type 'yarn'"),
    ("Llama-2-7b", dict(rope_scaling={"type": "dynamic", "factor": 2.0}), "rope_type 'dynamic'"),
    ("Qwen3-8B", dict(rope_scaling={"rope_type": "longrope"}), "rope_type 'longrope'"),
    ("Llama-2-7b", dict(rope_scaling={"rope_type": "linear"}), "the key 'factor' is missing"),
    ("Llama-2-7b", dict(rope_scaling={"rope_type": "linear", "factor": 2.0, "beta": 1}), "'beta' of linear"),
    ("Llama-2-7b", dict(rope_scaling={"rope_type": "linear", "factor": 0.5}), "rope_scaling.factor is 0.5"),
    ("Llama-2-7b", dict(rope_scaling=[2.0]), "they must be a JSON object"),
    (
        "Llama-3.1-8B",
        dict(rope_parameters={"rope_type": "default"}),
        "rope_scaling and rope_parameters differ",
    ),
    (
        "gemma-3-1b",
        dict(rope_parameters={"rope_theta": 1e6}),
        "must have only full_attention and sliding_attention",
    ),
    (
        "gemma-3-1b",
        dict(rope_parameters={"sliding_attention": {"rope_type": "linear", "factor": 2.0}}),
        "scales sliding_attention",
    ),
    ("Llama-2-7b", dict(partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
    (
        "Llama-2-7b",
        dict(rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}),
        "partial_rotary_factor=0.5",
    ),
    ("Llama-2-7b", dict(attention_bias=True), "attention_bias=True"),
    ("Llama-2-7b", dict(mlp_bias=True), "mlp_bias=True"),
    ("Llama-2-7b", dict(pretraining_tp=2), "pretraining_tp=2"),
    ("Llama-2-7b", dict(hidden_act="relu"), "hidden_act 'relu' is not supported"),
    ("gemma-2-2b", dict(hidden_act="silu"), "hidden_act is 'silu', but hidden_activation"),
    ("gemma-2-2b", dict(hidden_activation="gelu"), "hidden_activation 'gelu' is not supported"),
    ("gemma-3-1b", dict(use_bidirectional_attention=True), "use_bidirectional_attention=True"),
    ("gemma-3-1b", dict(attn_logit_softcapping=50.0), "attn_logit_softcapping=50.0"),
    ("Llama-2-7b", dict(final_logit_softcapping=30.0), "final_logit_softcapping=30.0"),
    ("Llama-2-7b", dict(quantization_config={"bits": 4}), "quantization_config="),
    ("Llama-2-7b", dict(sliding_window=128), "sliding_window=128 is not supported for llama"),
    ("SmolLM2-135M", dict(rope_interleaved=True), "rope_interleaved=True"),
    ("Qwen2.5-0.5B", dict(use_mrope=True), "use_mrope=True"),
    ("Qwen3-8B", dict(num_experts=8), "unknown key 'num_experts' of a qwen3"),
    ("Llama-2-7b", dict(residual_multiplier=0.2), "unknown key 'residual_multiplier' of a llama"),
    ("Mistral-7B-v0.1", dict(layer_types=["full_attention"] * 32), "a mistral whose layer_types differ"),
    ("gemma-2-2b", dict(layer_types=["chunked_attention"] * 26), "layer_types is"),
    ("gemma-2-2b", dict(layer_types=["full_attention"]), "each of 26 layers"),
    ("gemma-2-2b", dict(sliding_window=None), "sliding_window is missing"),
    ("gemma-2-27b", dict(sliding_window_size=128), "sliding_window_size is 128"),
    ("Qwen3-8B", dict(layer_types=["sliding_attention"] * 36), "or use_sliding_window false"),
    ("gemma-2-2b", dict(query_pre_attn_scalar=0), "query_pre_attn_scalar is 0"),
    ("Llama-2-7b", dict(hidden_size=None), "the key 'hidden_size' is missing"),
    ("Llama-2-7b", dict(num_hidden_layers="many"), "num_hidden_layers is 'many'; it must be a number"),
    ("Llama-2-7b", dict(num_hidden_layers=2.5), "num_hidden_layers is 2.5; it must be a whole number"),
    ("Llama-2-7b", dict(vocab_size=0), "vocab_size is 0"),
    ("Llama-2-7b", dict(rms_norm_eps=float("nan")), "rms_norm_eps is nan"),
    ("Llama-2-7b", dict(tie_word_embeddings="no"), "tie_word_embeddings is 'no'"),
    ("Llama-2-7b", dict(num_key_value_heads=5), "model.query_heads .32. must be a multiple"),
]


@pytest.mark.parametrize(("name", "changes", "problem"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_not_implemented_is_refused_by_name(name, changes, problem):
    with pytest.raises(InputError, match=rf"^config\.json: .*{problem}") as raised:
        read(name, **changes)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (dict(qkv_bias=True, qk_norm=True), "no model_type has exactly qkv_bias, qk_norm"),
        (dict(window=3, windowed_layers=(True, False)), "exactly a window in some layers"),
        (dict(final_softcap=30.0), "a llama has no final_softcap of 30.0"),
        (dict(query_scale=0.3), "a llama has no query_scale of 0.3"),
        (dict(ARCHITECTURES["gemma"], attention_softcap=5.0), "a gemma3_text has no attention_softcap"),
        (dict(ARCHITECTURES["gemma"], qk_norm=False, query_scale=0.3), "a gemma2 has no query_scale of 0.3"),
        (dict(window=3, local_rope_base=10.0), "a mistral has no local_rope_base of 10.0"),
    ],
)
def test_a_decoder_that_no_model_type_covers_is_not_written(changes, problem):
    with pytest.raises(InputError, match=problem):
        hf_config(tiny_config(**changes))
