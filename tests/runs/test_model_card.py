"""An exported model's card: YAML that the Hub reads, what the model was trained on, and its run's results."""

import json

import pytest
import yaml
from elsewhere import LORA, chat_folder, run_workdir
from markdown_it import MarkdownIt
from report_workdir import HOSTILE, synthetic_arm

from introspection.checkpoints.names import find_models
from introspection.runs.model_card import model_card

ARM = {"kl_weight": 0.5, "label_noise": 0.3, "shift": {"kind": "less_sycophantic", "order": "after"}}


def parts(card: str) -> tuple[dict, str]:
    """The YAML and the HTML of a card."""
    _, metadata, body = card.split("---\n", 2)
    return yaml.safe_load(metadata), MarkdownIt("commonmark").enable("table").render(body)


def card_of(run, base="/models/base", arm="lora:1", lora=LORA):
    (found,) = find_models(f"{run}:{arm}")
    return parts(model_card(f"{run}:{arm}", found, base, lora))


def finished(folder, **changes):
    config = {"name": "mine", "initial": "/models/base", "arms": {"lora": ARM}, "run_arms": ["lora"]}
    run = run_workdir(folder, config | changes)
    results = {"arms": {"lora": synthetic_arm(0.11, 0.04)}, "askable": {"words": "askable: labels teach"}}
    (run / "results.json").write_text(json.dumps(results))
    return run


def test_the_card_says_what_was_trained_and_what_came_out(tmp_path):
    metadata, page = card_of(finished(tmp_path / "run"))
    assert metadata == {
        "base_model": "/models/base",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lora", "self-explanation"],
    }
    for fact in (
        "<td>LoRA rank</td>\n<td>3</td>",
        "<td>LoRA alpha</td>\n<td>5</td>",
        "<code>q_proj, v_proj, down_proj</code>",
        "<code>run</code>, <code>lora</code>",
        "<td>seed</td>\n<td>1</td>",
        "<td>step</td>\n<td>4 of 1000</td>",
        "<td>config</td>\n<td><code>mine</code></td>",
        "what <code>initial</code> does; 30% replaced by a wrong label",
        "KL to <code>initial</code>, weight 0.5",
        "<td><code>less_sycophantic</code></td>",
        "askable: labels teach",
    ):
        assert fact in page, fact
    said = json.loads((tmp_path / "run" / "results.json").read_text())["arms"]["lora"]
    for name, sign in (("self", ""), ("orig", ""), ("gap", "+")):
        score = said[name]["exact_match"]
        mean, low, high = (f"{100 * number:{sign}.1f}" for number in (score["mean"], *score["ci95"]))
        assert f">{mean} [{low}, {high}]</td>" in page


def test_a_whole_model_and_one_without_results_have_a_card(tmp_path):
    run = run_workdir(tmp_path / "run", {})
    metadata, page = card_of(run, base=None, arm="full:0", lora=None)
    assert metadata["library_name"] == "transformers"
    assert "base_model" not in metadata
    assert "Self" not in page
    found = find_models(str(chat_folder(tmp_path / "model")))[0]
    metadata, page = parts(model_card("model", found, None, None))
    assert metadata["tags"] == []
    assert "<code>model</code>" in page


def test_results_are_of_the_newest_checkpoint_alone(tmp_path):
    run = finished(tmp_path / "run")
    assert "Self" in card_of(run)[1]
    (run / "checkpoints" / "lora" / "9").mkdir()
    assert "Self" not in card_of(run, arm="lora:1@4")[1]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/hub/models--org--base/snapshots/0123abc", "org/base"),
        ('/a "quoted": path/# ü 😀', '/a "quoted": path/# ü 😀'),
    ],
)
def test_the_base_is_named_as_the_hub_names_it_if_it_is_in_its_cache(tmp_path, path, name):
    assert card_of(run_workdir(tmp_path / "run"), base=path)[0]["base_model"] == name


def test_text_of_others_stays_text(tmp_path):
    bad = f"{HOSTILE} `</code>` **x** | [y](z) | \n---\n"
    card = model_card(
        bad, find_models(f"{finished(tmp_path / 'run', name=bad, label_teacher=bad)}:lora:0")[0], bad, LORA
    )
    card.encode()
    _, page = parts(card)
    for element in ("<img", "<script", "<strong>x", "<a ", "<hr"):
        assert element not in page
    assert "\u202e" not in card
    assert yaml.safe_load(card.split("---\n", 2)[1])["library_name"] == "peft"
