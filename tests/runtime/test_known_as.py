"""An unknown field is answered with the one that is meant, and every field that is suggested exists."""

import pytest
from absl import flags
from ml_collections import ConfigDict, config_flags
from programs import ROOT

from introspection.errors import InputError
from introspection.runs.config import arm, default_config, read_config, task_section
from introspection.runtime.command import _fields, check_field, parse_flags, with_tuples
from introspection.runtime.known_as import KNOWN_AS
from introspection.tasks.registry import LANGUAGES, TASKS, default_section


def test_every_field_that_is_suggested_exists():
    fields = {path for path, _ in _fields(default_config())}
    fields |= {f"task.{name}" for task in (*LANGUAGES, *TASKS) for name in default_section(task)}
    assert {field.replace("ARM", "kl") for field in KNOWN_AS} <= fields
    for field, names in KNOWN_AS.items():
        assert not set(names.split()) & {path for path in fields if "." not in path}, field


@pytest.mark.parametrize(
    ("field", "hint"),
    [
        ("lambda", "you may mean config.arms.ARM.kl_weight"),
        ("arms.kl.lr", "did you mean 'learning_rate'"),
        ("arms.kl.lambda", "did you mean 'kl_weight'"),
        ("train.learning_rate", "you may mean config.arms.ARM.learning_rate"),
        ("train.batch_size", "did you mean 'explanation_rows'"),
        ("pretrain.batch_size", "did you mean 'rows'"),
        ("batch_size", "you may mean config.train.explanation_rows or config.pretrain.rows"),
        ("num_steps", "you may mean config.train.steps"),
        ("optimizer.lr", "you may mean config.arms.ARM.learning_rate"),
        ("base_model", "did you mean 'initial'"),
        ("seed", "did you mean 'seeds'"),
        ("lora_r", "you may mean config.lora.rank"),
        ("model", "or you may mean config.initial"),  # a section: the organism's sizes
        ("rank", "you may mean config.lora.rank"),  # a field of this name elsewhere
        ("train.stpes", "did you mean 'steps'"),
        ("arms.kll.learning_rate", "did you mean 'kl'"),
        ("dataset", "you may mean config.task.name"),  # not the run's own name
        ("model.path", "you may mean config.initial"),  # read with its section: model_path
        ("log.wandb_project", "did you mean 'wandb'"),
        ("num_seeds", "(the seeds themselves"),
        ("epochs", "(optimizer steps, not epochs)"),
        ("test_size", "you may mean config.task.test_entities"),  # of those that the task has
        ("data", "this config's task reads no file"),  # not the mesh's axis
        ("lora.dropout", "nothing here has dropout"),
        ("bf16", "config.lora.base_dtype=bfloat16 keeps"),
        ("output_dir", "give --workdir=W"),
        ("zzz", "choose from align, architecture, "),
    ],
)
def test_an_unknown_field_is_answered_by_meaning_then_by_spelling(field, hint):
    with pytest.raises(InputError) as refusal:
        check_field(field, default_config(), "config.")
    assert hint in str(refusal.value)


def test_data_is_the_tasks_where_it_reads_a_file():
    config = default_config()
    config.task = task_section("jsonl")
    with pytest.raises(InputError, match=r"you may mean config\.task\.data$"):
        check_field("data_path", config, "config.")


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--seed=1", "--config.seeds"),
        ("--lr=1", "--config.arms.ARM.learning_rate"),
        ("--output_dir=x", "--workdir=W"),
    ],
)
def test_an_unknown_flag_is_answered_by_meaning(flag, hint):
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    with pytest.raises(InputError) as refusal:
        parse_flags(values, ["run", f"--config={ROOT / 'configs/quickstart.py'}:tiny", flag])
    assert hint in str(refusal.value)


def test_no_command_is_told_of_a_flag_that_it_lacks():
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, lock_config=True)
    with pytest.raises(InputError) as refusal:
        parse_flags(
            values, ["pretrain", f"--config={ROOT / 'configs/quickstart.py'}:tiny", "--workdir=runs/x"]
        )
    assert "--workdir=W" not in str(refusal.value)


def test_a_config_file_with_such_a_field_gets_the_same_answer():
    fields = default_config()
    fields.arms = ConfigDict({"kl": arm(lr=1e-3)})
    with pytest.raises(InputError, match=r"config.arms.kl: has no field 'lr'; did you mean 'learning_rate'"):
        read_config(fields)
    with pytest.raises(InputError, match=r"'learning_rate'; you may mean config.arms.ARM.learning_rate"):
        read_config({"train": {"learning_rate": 1.0}})


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("seeds=0,1", "seeds=(0, 1)"),
        ("run_arms=kl,no_kl", "run_arms=('kl', 'no_kl')"),
        ("run_arms=kl", "run_arms=('kl',)"),
        ("run_arms=('no_kl','kl')", "run_arms=('no_kl','kl')"),
        ("run_arms=", "run_arms=()"),
        ("lora.targets=query,value", "lora.targets=('query', 'value')"),
        ("seeds[0]=1", "seeds[0]=1"),
        ("name=a,b", "name=a,b"),
    ],
)
def test_a_tuple_may_be_written_with_commas(given, written):
    before = ["run", f"--config.{given}", "--workdir=a,b"]
    assert with_tuples(before, default_config()) == ["run", f"--config.{written}", "--workdir=a,b"]
