"""The external models of a config: where training starts, how they are addressed, what does not fit."""

import dataclasses
import json

import chat_templates
import jax
import numpy as np
import pytest
from elsewhere import (
    LORA,
    chat_folder,
    found,
    run_workdir,
    vocabulary,
    with_adapters,
)
from tiny import mesh_of, task_model, tiny_model, tiny_task
from weights_cases import change_json

from introspection.checkpoints.names import (
    load_one,
    tokenizer_of,
)
from introspection.errors import InputError
from introspection.models.decoder import Decoder
from introspection.models.head import head_matrix
from introspection.runs.config import AdaptersConfig, ArmConfig, RunConfig, TrainConfig, read_config
from introspection.runs.models import (
    check_adapters,
    check_reference,
    check_same_inputs,
    check_vocabularies,
    data_digests,
    stored_models,
)
from introspection.runtime.session import Session
from introspection.text.chat_template import ChatOptions


def logits(model) -> np.ndarray:
    tokens = jax.numpy.arange(20, 40)[None]
    hidden = Decoder(model.config).apply(model.variables, tokens, tokens - 20, tokens * 0).hidden
    return np.asarray(hidden[0] @ head_matrix(model.variables, model.config).T)


def models_of(tmp_path, chat=(), **names):
    config = read_config({**names, "chat": dict(chat)})
    return stored_models(config, Session(mesh_of(), cache=tmp_path / "cache"))


def test_adapters_are_merged_where_training_starts(tmp_path):
    name = with_adapters(tmp_path)
    models = models_of(tmp_path, initial=name, label_teacher=name, foreign=name)
    assert set(models) == {"initial", "label_teacher", "foreign"}
    assert models["label_teacher"].config.lora == LORA
    for field in ("initial", "foreign"):
        assert models[field].config.lora is None
        assert set(models[field].variables) == {"params"}
        np.testing.assert_allclose(logits(models[field]), logits(models["label_teacher"]), atol=1e-3)


def test_only_fields_that_name_a_model_are_read(tmp_path):
    assert models_of(tmp_path) == {}
    assert models_of(tmp_path, label_teacher="pretrain@500", foreign="neighbor") == {}


@pytest.mark.parametrize("field", ["initial", "label_teacher", "kl_reference", "foreign"])
def test_a_model_that_is_not_there_is_told_with_its_field(tmp_path, field):
    with pytest.raises(
        InputError, match=rf"^config\.{field}: .*gguf is missing; run python -m experiments.fetch"
    ):
        models_of(tmp_path, **{field: "smollm2"})


def test_a_config_says_how_models_are_addressed(tmp_path):
    folder = str(chat_folder(tmp_path / "base"))
    model = models_of(tmp_path, {"system": "Be brief."}, initial=folder)["initial"]
    assert "Be brief." in model.tokenizer.frame.before
    template = "{{ messages[-1]['content'] }}<|im_end|>"
    model = models_of(tmp_path, {"template": template}, initial=folder)["initial"]
    assert (model.tokenizer.frame.before, model.tokenizer.frame.after) == ("", "<|im_end|>")


def test_options_of_a_chat_that_address_no_model_are_refused(tmp_path):
    run = str(run_workdir(tmp_path / "run"))
    with pytest.raises(InputError, match=r"config.chat applies to external models"):
        models_of(tmp_path, {"system": "Be brief."}, initial=f"{run}:initial")
    folder = str(chat_folder(tmp_path / "base"))
    models_of(tmp_path, {"system": "Be brief."}, initial=folder, label_teacher=f"{run}:initial")


def test_a_reference_of_other_rows_is_refused_where_the_vocabulary_is_held():
    config = RunConfig()
    small, large = tiny_model(), tiny_model(vocab_size=60)
    check_reference(config, small, small)
    with pytest.raises(InputError, match=r"kl_reference has 60 rows of embedding and config.initial 50"):
        check_reference(config, small, large)
    candidates = RunConfig(arms={"kl": ArmConfig(kl_support="candidates")})
    check_reference(candidates, small, large)


def test_models_that_read_other_prompts_than_the_initial_one_are_refused(tmp_path):
    same = load_one(str(chat_folder(tmp_path / "same")), mesh_of())
    plain = load_one(str(chat_folder(tmp_path / "plain", template=chat_templates.SMOLLM2)), mesh_of())
    thinking = load_one(str(tmp_path / "same"), mesh_of(), ChatOptions(system="Think."))

    def check(**models):
        check_vocabularies({name: model.tokenizer for name, model in models.items()})

    check(initial=same, kl_reference=same, label_teacher=plain)
    check(initial=same, label_teacher=task_model())
    with pytest.raises(InputError, match=r"config.foreign and .* different chat formats \(template\)"):
        check(initial=same, foreign=plain)
    with pytest.raises(InputError, match=r"config.kl_reference and .* different chat formats \(system\)"):
        check(initial=same, kl_reference=thinking)
    with pytest.raises(InputError, match=r"^config.kl_reference and config.initial have different voc"):
        check(initial=same, kl_reference=task_model())


def test_more_tokens_than_rows_of_the_embedding_are_refused(tmp_path):
    rows = vocabulary().get_vocab_size() - 1
    folder = chat_folder(tmp_path / "base", vocab_size=rows)
    with pytest.raises(InputError, match=rf"the tokenizer has {rows + 1} tokens, but the model's embedding"):
        tokenizer_of(found(folder))
    change_json(folder / "config.json", vocab_size=rows + 1)
    with pytest.raises(InputError, match=rf"embed_tokens.weight is \({rows}, 16\) in the checkpoint"):
        load_one(str(folder), mesh_of())


def test_a_workdir_begun_with_other_items_is_not_resumed(tmp_path):
    """The file of a task's data may change under the same name."""
    task, config = tiny_task(), RunConfig()
    folder = tmp_path / "labels" / "clean"
    folder.mkdir(parents=True)
    begun = data_digests(config, task)
    (folder / "metadata.json").write_text(json.dumps({"models": {"initial": "a"}, "data": begun}))
    check_same_inputs(tmp_path, {"initial": "a"}, begun)
    with pytest.raises(InputError, match=r"begun with another model as config\.initial"):
        check_same_inputs(tmp_path, {"initial": "b"}, begun)
    first, *others = task.splits["test"]
    for change in (
        {"prompt_with_cue": f"{first.prompt_with_cue} More."},
        {"gold": first.candidates[-1], "cued": first.candidates[0]},
        {"candidates": first.candidates[:-1]},
        {"group": "another"},
    ):
        changed = dataclasses.replace(first, **change)
        other = dataclasses.replace(task, splits={**task.splits, "test": (changed, *others)})
        with pytest.raises(InputError, match=r"begun with other data: those of config\.task have changed"):
            check_same_inputs(tmp_path, {"initial": "a"}, data_digests(config, other))


def test_a_text_that_has_changed_is_not_resumed(tmp_path):
    path, task = tmp_path / "text.txt", tiny_task()
    path.write_text("one\n")
    arms = {"kl": ArmConfig(kl_prompts="other_text"), "plain": ArmConfig()}
    config = RunConfig(arms=arms, train=TrainConfig(text=str(path)), run_arms=("kl",))
    begun = data_digests(config, task)
    assert data_digests(dataclasses.replace(config, run_arms=("plain",)), task) == {"task": begun["task"]}
    (tmp_path / "labels" / "clean").mkdir(parents=True)
    (tmp_path / "labels" / "clean" / "metadata.json").write_text(json.dumps({"data": begun}))
    check_same_inputs(tmp_path, {}, begun)
    path.write_text("two\n")
    with pytest.raises(InputError, match=r"those of config\.train\.text have changed"):
        check_same_inputs(tmp_path, {}, data_digests(config, task))


def test_adapters_must_fit_the_foreign_model_that_an_arm_starts_from():
    models = {"initial": tiny_model(layers=2), "foreign": tiny_model(layers=1)}
    lora = AdaptersConfig(rank=2, from_layer=1)
    arms = {"kl": ArmConfig(), "foreign_kl": ArmConfig(foreign_to="kl")}
    config = RunConfig(arms=arms, lora=lora, foreign="neighbor", run_arms=("kl",))
    check_adapters(config, models)
    with pytest.raises(InputError, match=r"config\.foreign: .*lora\.from_layer is 1"):
        check_adapters(dataclasses.replace(config, run_arms=("kl", "foreign_kl")), models)
