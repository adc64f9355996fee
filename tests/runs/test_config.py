"""A run's config: every file can be read, nothing is lost on the way, and mistakes are named."""

import dataclasses
import importlib
import json

import pytest

from introspection.errors import InputError
from introspection.runs.added_arms import with_arms_added
from introspection.runs.config import (
    RunConfig,
    arm,
    default_config,
    read_config,
    task_section,
)
from introspection.runs.identity import completed, identity
from introspection.runtime.config import check_choices, plain
from introspection.runtime.mesh import MeshConfig
from introspection.runtime.workdir import check_workdir
from introspection.tasks.registry import TASKS, default_section

ARGUMENTS = [
    ("quickstart", ""),
    ("quickstart", "tiny"),
    ("organism", ""),
    ("organism", "tiny"),
    *(("privileged", argument) for argument in ("", "tiny", "qwen3_8b", "llama31_8b")),
    *(("smollm2", argument) for argument in ("", "other", "large", "large_other", "tiny")),
    *(("learning_curve", argument) for argument in ("", "named", "listed", "listed_rates", "tiny")),
    *(("concurrent", argument) for argument in ("", "tiny", "taught", "refusal", "tiny_refusal", "qwen3_8b")),
    *((name, argument) for name in ("hint_mmlu", "aita", "refusal") for argument in ("qwen3_8b", "tiny")),
    *(("jsonl", argument) for argument in ("smollm2", "tiny")),
    *(
        (name, argument)
        for name in (
            "regularization",
            "learning_rate",
            "lora_rank",
            "label_noise",
            "supervision",
            "generalization",
        )
        for argument in ("organism", "tiny", "llama31_8b")
    ),
    *(("lora_rank", argument) for argument in ("rates", "chosen")),
    *(("mechanism", argument) for argument in ("organism", "smollm2", "qwen3_8b", "tiny")),
    *(("jabberwocky", argument) for argument in ("qwen3_8b", "organism", "tiny")),
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_every_config_file_is_read_and_comes_back_from_json_the_same(name, argument):
    fields = importlib.import_module(f"configs.{name}").get_config(argument)
    config = read_config(fields)
    stored = json.loads(json.dumps(plain(config)))
    assert stored == plain(fields)
    assert plain(read_config(stored)) == stored
    assert config.chosen_arms.keys() == set(fields.run_arms or fields.arms)


def test_the_defaults_of_a_config_file_are_those_of_the_dataclass():
    assert read_config({}) == RunConfig()
    assert plain(default_config()) == plain(RunConfig())
    with pytest.raises(KeyError, match="entitys"):
        task_section("invented_world", entitys=3)


@pytest.mark.parametrize("name", TASKS)
def test_a_tasks_section_has_every_field_of_the_task(name):
    assert plain(task_section(name)) == default_section(name)


def test_a_config_of_before_a_field_existed_is_completed():
    stored = identity(read_config(default_config()))
    older = {name: value for name, value in stored.items() if name not in ("report", "part")}
    older["arms"] = {"kl": {"kl_weight": 1.0}}
    assert completed(older) == stored
    # What can't be read stays as it is, to be compared as it is.
    assert completed({"arms": {"kl": {"no_such_field": 1}}}) == {"arms": {"kl": {"no_such_field": 1}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trian": {}}, "config has no field 'trian'; it has align, architecture, "),
        ({"train": {"step": 3}}, "config.train has no field 'step'; it has balanced, "),
        ({"pretrain": {"mixture": {"hints": 1.0}}}, "config.pretrain.mixture has no field 'hints'"),
        ({"arms": {"kl": {"kl_wait": 0.0}}}, "config.arms.kl: has no field 'kl_wait'"),
        ({"arms": {"kl": {"shift": {"kind": "sideways"}}}}, "config.arms.kl: shift.kind is 'sideways'"),
        ({"arms": {"kl": {"refresh_steps": 600}}}, r"config.arms.kl: refresh_steps \(600\) never comes"),
        ({"arms": {"kl": {"foreign_labels": 0.5}}}, "config.arms.kl: foreign_labels needs a model"),
        ({"align": {"steps": 500}}, "config.align.steps is set, but config.foreign is 'none'"),
        ({"align": {"steps": 700}}, r"config.align.steps is 700; give a multiple of check_steps \(500\)"),
        ({"align": {"agreement": 1.0}}, "config.align.agreement is 1.0; it is a share, above 0 and below 1"),
        ({"align": {"held_out": 0.0}}, "config.align.held_out is 0.0; it is a share"),
        ({"align": {"items": 0}}, "config.align.items is 0; it must be at least 1"),
        (
            {"align": {"steps": 15, "check_steps": 15}, "foreign": "neighbor"},
            r"\(15\) is no multiple of steps_per_call",
        ),
        (
            {"arms": {"kl": {"aligned": True}}},
            "config.arms.kl: aligned is about a foreign explainer: name in",
        ),
        (
            {"foreign": "neighbor", "arms": {"kl": {}, "a": {"foreign_to": "kl", "aligned": True}}},
            "config.arms.a: aligned needs config.align.steps above 0",
        ),
        (
            {"foreign": "neighbor", "arms": {"a": {"foreign_to": "kl", "shown": True}, "kl": {}}},
            "config.arms.a: it is shown the answers of kl: put that arm before it",
        ),
        (
            {"arms": {"kl": {"shown": True, "refresh_steps": 100}}},
            "shown and refresh_steps can't be combined",
        ),
        (
            {"arms": {"kl": {"shift": {"kind": "distill"}}}},
            "config.arms.kl: shift 'distill' needs a model in config.foreign",
        ),
        (
            {"arms": {"kl": {"shift": {"replay": True}}}},
            "config.arms.kl: shift.replay goes on with explanations",
        ),
        ({"run_arms": ["lk"]}, "config.run_arms has 'lk'; choose from kl"),
        (
            {"arms": {"shuffled": {"labels": "labels/kl", "shuffle_labels": True}}},
            "config.arms.shuffled: labels is 'labels/kl', .* either labels or shuffle_labels",
        ),
        (
            {"arms": {"kl": {"labels": "labels/kl", "label_noise": 0.3}}},
            "config.arms.kl: .* either labels or label_noise",
        ),
        (
            {"foreign": "neighbor", "arms": {"kl": {"foreign_labels": 0.5, "refresh_steps": 100}}},
            "config.arms.kl: foreign_labels and refresh_steps can't be combined",
        ),
        ({"arms": {"kl": {"learning_rate": -1e-3}}}, "config.arms.kl: learning_rate is -0.001 and kl_weight"),
        ({"arms": {"kl": {"kl_weight": -1.0}}}, "config.arms.kl: .* kl_weight -1.0"),
        ({"arms": {"kl": {"shift": {"weight": -1.0}}}}, "config.arms.kl: shift.weight is -1.0; it must be"),
        ({"train": {"warmup_steps": -5}}, "warmup_steps is -5; it must be at least 0"),
        ({"train": {"weight_decay": -0.1}}, "weight_decay is -0.1; it must be at least 0"),
        ({"evaluation": {"skipped_share": -1.0}}, "config.evaluation.skipped_share is -1.0; it is a share"),
        (
            {"train": {"log_steps": 200, "checkpoint_steps": 100}},
            r"checkpoint_steps \(100\) is no multiple of log_steps \(200\)",
        ),
        (
            {"arms": {"kl": {"noise_part": "verb"}}},
            "config.arms.kl: noise_part is 'verb'; choose from both, ",
        ),
        (
            {"arms": {"kl": {"noise_part": "changed", "noise_towards": "cued"}}},
            "config.arms.kl: noise_towards is 'cued', .*set noise_part to 'answer' or 'both'",
        ),
        (
            {"arms": {"kl": {"kl_prompts": "other_text", "kl_support": "candidates"}}},
            "config.arms.kl: kl_support is 'candidates', but other text",
        ),
        (
            {"train": {"explained_where": ["kind=friend"]}},
            "explained_where has 'kind=friend'; give FIELD=VALUE",
        ),
        ({"neighbor": {"width": 4}}, "model.head_dim is 1; rotary"),
        ({"architecture": "mamba"}, "the architecture is 'mamba'"),
        ({"initial": "pretrain@250"}, "config.initial: the organism has no step '250'"),
        ({"train": {"explanation_rows": 0}}, "every kind; explanation_rows is 0"),
    ],
    ids=str,
)
def test_what_fields_alone_tell_is_refused_in_one_line(change, message):
    with pytest.raises(InputError, match=message) as refusal:
        read_config(change)
    assert "\n" not in str(refusal.value)


def test_a_foreign_explainer_repeats_the_recipe_of_its_arm():
    own = {"kl": plain(arm(kl_weight=2.0)), "foreign_kl": plain(arm(kl_weight=2.0, foreign_to="kl"))}
    run = {"foreign": "neighbor", "arms": own, "run_arms": ("kl", "foreign_kl")}
    assert read_config(run).chosen_arms["foreign_kl"].foreign_to == "kl"
    own["foreign_kl"]["kl_weight"] = 1.0
    with pytest.raises(InputError, match=r"foreign_kl: its recipe must equal that of kl .*kl_weight is 2.0"):
        read_config(run)
    with pytest.raises(InputError, match=r"foreign_kl: foreign_to is 'kl'; name an arm of config.run_arms"):
        read_config(run | {"run_arms": ("foreign_kl",)})


def test_all_arms_of_a_file_run_in_its_order_unless_some_are_chosen():
    fields = importlib.import_module("configs.quickstart").get_config()
    fields.arms.added = arm()
    assert list(read_config(fields).chosen_arms) == ["kl", "no_kl", "kl_shift", "shuffled", "added"]
    fields.run_arms = ("added", "kl")
    assert list(read_config(fields).chosen_arms) == ["added", "kl"]
    assert list(read_config({"arms": {"a": {}, "b": {}}, "run_arms": "b,a"}).chosen_arms) == ["b", "a"]


def test_an_arm_with_a_shift_after_training_takes_twice_the_steps():
    after = read_config({"arms": {"kl": {"shift": {"kind": "new_facts", "order": "after"}}}})
    once = RunConfig()
    for made in ("loop", "optimizer"):
        steps = [getattr(c.train, made)(c.arms["kl"]).steps for c in (once, after)]
        assert steps == [500, 1000]
    assert dataclasses.asdict(once.train.rows) == dict(explanation_rows=128, behavior_items=32, shift_rows=64)


@pytest.mark.parametrize("chosen", ["test", None, (), ("test", "test"), ("tset",)], ids=str)
def test_choices_are_distinct_known_texts_and_never_one_text(chosen):
    check_choices("config.task.parts", ("test",), ("dev", "test"))
    with pytest.raises(InputError, match=r"^config\.task\.parts (is|has) .*dev, test"):
        check_choices("config.task.parts", chosen, ("dev", "test"))


def test_where_a_run_computes_is_no_part_of_it(tmp_path):
    """Older workdirs hold a mesh, of which the same holds."""
    config = read_config(default_config())
    elsewhere = dataclasses.replace(config, mesh=MeshConfig(4, 2))
    assert identity(config) == identity(elsewhere)
    assert "mesh" not in identity(config)
    (tmp_path / "config.json").write_text(json.dumps(plain(elsewhere)), encoding="utf-8")
    check_workdir(tmp_path, identity(config), with_arms_added(config))
    other = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=100))
    with pytest.raises(InputError, match="steps is"):
        check_workdir(tmp_path, identity(other), with_arms_added(other))
