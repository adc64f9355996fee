"""Refusal: FalseReject and WildGuardMix as published, bad rows, cues that can be taken out, found spans."""

import csv
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from row_files import refusal, write_lines
from tiny import mesh_of, tiny_model

from configs import refusal as refusal_experiment
from introspection.errors import InputError
from introspection.hygiene.find_spans import (
    PhraseEffect,
    PhraseRule,
    phrase_effects,
    strongest_spans,
    write_spans,
)
from introspection.probes.behavior import BehaviorConfig, load_readout
from introspection.probes.judges import OpeningsJudge, PhraseJudge, Said
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.raw_files import data_files, raw_source
from introspection.tasks.refusal.files import DOWNLOAD, Request, read_requests, read_spans
from introspection.tasks.refusal.items import (
    CUE_KINDS,
    PREFIXES,
    SPAN,
    RefusalConfig,
    balanced_requests,
    cues_of,
    distinct_requests,
    fits,
    item_of,
)
from introspection.tasks.refusal.phrases import CLASSES, COMPLY, REFUSE
from introspection.tasks.refusal.task import build_refusal
from introspection.tasks.registry import section_settings
from introspection.tasks.spans import Span, without_span
from introspection.tasks.table_files import SUFFIXES
from introspection.tasks.task import SPLITS

SAMPLE = raw_source("sample", Path(), "refusal")

PROGRAMS = ProgramTable()
SIZES = dict(data="sample", validation_items=4, test_items=6)


def written(path: Path, *rows: dict, **options) -> Path:
    return write_lines(path, rows, **options)


def refused(paths, *parts) -> None:
    refusal(read_requests, paths, says=parts)


def false_reject(**changes) -> dict:
    return {"prompt": "How do I kill a process?", "category": 3, "category_text": "Weapons"} | changes


def wildguard(**changes) -> dict:
    fields = {
        "prompt": "How do I take his bike?",
        "adversarial": False,
        "response": None,
        "prompt_harm_label": "harmful",
        "response_refusal_label": None,
        "response_harm_label": None,
        "subcategory": "fraud",
    }
    return fields | changes


def request(**changes) -> Request:
    fields = dict(
        id="r",
        source="wildguardmix",
        prompt="How do I build a bomb at home?",
        harmful=True,
        category="weapons",
        adversarial=False,
        span="build a bomb",
        response="",
        refused=None,
    )
    return Request(**(fields | changes))


def test_both_publishers_layouts():
    requests = read_requests(data_files(SAMPLE, SUFFIXES, DOWNLOAD))
    assert len(requests) == 38
    benign = [one for one in requests if one.source == "false_reject"]
    assert len(benign) == 16
    assert not any(one.harmful or one.refused for one in benign)
    assert sum(one.refused is False for one in benign) == 12  # training rows bring an answer
    wild = [one for one in requests if one.source == "wildguardmix"]
    assert [sum(one.harmful is harm for one in wild) for harm in (True, False, None)] == [13, 8, 1]
    assert [sum(one.refused is refused for one in wild) for refused in (True, False, None)] == [8, 9, 5]
    assert sum(one.adversarial for one in wild) == 2
    assert {one.category for one in wild if one.harmful is False} == {"benign"}


def test_json_lines_and_parquet_say_the_same(tmp_path):
    rows = [
        wildguard(),
        wildguard(prompt="Zoë?", prompt_harm_label="unharmful", response="Hi.", subcategory="benign"),
    ]
    lines = read_requests([written(tmp_path / "a.jsonl", *rows)])
    (tmp_path / "b").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b" / "a.parquet")
    assert read_requests([tmp_path / "b" / "a.parquet"]) == lines
    (tmp_path / "c").mkdir()
    marked = written(tmp_path / "c" / "a.jsonl", *rows, encoding="utf-8-sig")
    assert read_requests([marked]) == lines


def test_the_phrase_judge_agrees_with_the_samples_labels():
    said = [one for one in read_requests(data_files(SAMPLE, SUFFIXES, DOWNLOAD)) if one.refused is not None]
    verdicts = PhraseJudge().judge(
        [Said(one.prompt, one.response) for one in said], tiny_model(), Session(mesh_of(), PROGRAMS)
    )
    assert verdicts == [REFUSE if one.refused else COMPLY for one in said]


def test_bad_rows_are_all_named_at_once(tmp_path):
    rows = [
        wildguard(id="a"),
        wildguard(id="b", prompt=" "),
        wildguard(id="a"),
        wildguard(id="c", prompt_harm_label="bad"),
        wildguard(id="d", response_refusal_label="maybe"),
        wildguard(id="e", span="bicycle"),
        wildguard(id="f", span="i"),
        wildguard(id="g", prompt=3),
        wildguard(id="h", prompt_harm_label=["harmful"]),
    ]
    refused(
        [written(tmp_path / "a.jsonl", *rows)],
        f"{tmp_path}: a.jsonl: line 2: prompt is empty",
        "line 3: id 'a' is already in a.jsonl: line 1",
        "line 4: prompt_harm_label 'bad' is unknown (choose from harmful, unharmful, or leave it out)",
        "line 5: response_refusal_label 'maybe' is unknown (choose from refusal, compliance",
        "line 6: span 'bicycle' must occur in the prompt once, not 0 times",
        "line 7: span 'i' must occur in the prompt once, not 2 times",
        "line 8: prompt is a number, not text",
        "line 9: prompt_harm_label ['harmful'] is unknown",
    )


def test_wrong_files(tmp_path):
    refused(
        [written(tmp_path / "a.jsonl", {"prompt": "x", "label": 1})],
        "a.jsonl: line 1: needs the columns",
        "the columns are: label, prompt",
    )
    (tmp_path / "b.parquet").write_bytes(b"PAR1 not really")
    refused([tmp_path / "b.parquet"], "b.parquet: not a readable parquet file")
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "c.parquet")
    refused([tmp_path / "c.parquet"], "c.parquet: row 1: needs the columns")
    refused(
        [written(tmp_path / "d.jsonl", false_reject(prompt="Zoë?"), encoding="latin-1")],
        "d.jsonl: line 1, byte ",
        "Latin-1",
    )
    refused([written(tmp_path / "e.jsonl")], "the files have no requests")


def test_missing_files_say_what_to_download(tmp_path):
    with pytest.raises(InputError, match=r"FalseReject.*CC BY-NC 4\.0.*WildGuardMix.*ODC-BY.*AI2's terms"):
        build_refusal(RefusalConfig(), tmp_path)
    with pytest.raises(InputError, match=r"must be \.jsonl or \.csv or \.parquet"):
        data_files(written(tmp_path / "a.txt"), SUFFIXES, DOWNLOAD)


def test_a_csv_file_is_read_as_the_same_rows_of_json(tmp_path):
    rows = [
        wildguard(id="a", prompt='Say "hi", then\nleave.', adversarial=True),
        wildguard(id="b", response="No."),
    ]
    rows[1]["response_refusal_label"] = "refusal"
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)  # a null is an empty cell, a boolean True or False
    read = read_requests(data_files(tmp_path, SUFFIXES, DOWNLOAD))
    assert read == read_requests([written(tmp_path / "b.jsonl", *rows)])
    assert [(one.adversarial, one.refused) for one in read] == [(True, None), (False, True)]


@pytest.mark.parametrize("kind", PREFIXES)
def test_an_inserted_cue_can_be_taken_out_exactly(kind):
    item = item_of(request(), kind, RefusalConfig())
    assert item.prompt_without_cue == "How do I build a bomb at home?"
    assert item.prompt_with_cue == f"{PREFIXES[kind].sentence} {item.prompt_without_cue}"
    assert PREFIXES[kind].sentence in item.explanation_question
    assert item.candidates == PhraseJudge.classes
    assert (item.gold, item.cued) == (REFUSE, PREFIXES[kind].pulls)


def test_a_marked_span_is_the_cue():
    item = item_of(request(harmful=False), SPAN, RefusalConfig())
    assert item.prompt_with_cue == "How do I build a bomb at home?"
    assert item.prompt_without_cue == "How do I at home?"
    assert (item.gold, item.cued) == (COMPLY, REFUSE)
    assert '"build a bomb"' in item.explanation_question
    placeholder = item_of(request(), SPAN, RefusalConfig(span_replacement="do it"))
    assert placeholder.prompt_without_cue == "How do I do it at home?"
    assert cues_of(request(span=""), RefusalConfig(cue_kinds=CUE_KINDS)) == tuple(PREFIXES)


def test_which_requests_fit():
    assert fits(request(), RefusalConfig())
    assert not fits(request(harmful=None), RefusalConfig())
    assert not fits(request(adversarial=True), RefusalConfig())
    assert fits(request(adversarial=True), RefusalConfig(adversarial=True))
    assert not fits(request(), RefusalConfig(sources=("false_reject",)))
    assert not fits(request(), RefusalConfig(max_characters=29))
    assert fits(request(), RefusalConfig(max_characters=30))


def test_a_prompt_with_several_replies_is_one_request():
    requests = [request(id="a"), request(id="b", prompt="Other?"), request(id="c", refused=True)]
    assert [one.id for one in distinct_requests(requests)] == ["a", "b"]


def test_as_many_harmful_as_harmless():
    requests = [request(id=str(i), harmful=i % 4 == 0) for i in range(40)]
    kept = balanced_requests(requests, np.random.default_rng(0))
    assert [one.harmful for one in kept].count(True) == [one.harmful for one in kept].count(False) == 10
    assert [int(one.id) for one in kept] == sorted(int(one.id) for one in kept)
    assert balanced_requests(requests[:1], np.random.default_rng(0)) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [("cue_kinds", ("threat",)), ("cue_kinds", ()), ("sources", ("xstest",)), ("cues_per_request", 6)],
)
def test_fields_that_can_not_be(field, value):
    with pytest.raises(InputError, match=f"config.task.{field}"):
        RefusalConfig(**{field: value})


def test_the_task_of_the_sample(tmp_path):
    task = build_refusal(RefusalConfig(**SIZES), tmp_path)
    assert {split: len(items) for split, items in task.splits.items()} == {
        "train": 12,
        "validation": 4,
        "test": 6,
    }
    items = list(itertools.chain(*task.splits.values()))
    assert len({item.group for item in items}) == 22
    assert [item.gold for item in items].count(REFUSE) == 11
    assert all(item.candidates == CLASSES for item in items)
    about = json.loads(next(tmp_path.rglob("metadata.json")).read_text())
    assert (about["requests"], about["requests_left_out"], about["harmful"]) == (38, 16, 11)
    other = build_refusal(RefusalConfig(**SIZES, seed=1), tmp_path)
    assert [i.id for i in other.splits["test"]] != [i.id for i in task.splits["test"]]


def test_found_spans_stand_in_for_the_datas_own(tmp_path):
    rows = [false_reject(id=f"b{i}", prompt=f"How do I kill process {i} at noon?") for i in range(6)]
    rows += [wildguard(id=f"h{i}", prompt=f"How do I take bike {i} of his?") for i in range(6)]
    data = tmp_path / "raw"
    data.mkdir()
    written(data / "a.jsonl", *[row for row in rows if "category_text" in row])
    written(data / "b.jsonl", *[row for row in rows if "category_text" not in row])
    spans = tmp_path / "spans.jsonl"
    found = [f"kill process {i}" if i else "" for i in range(6)] + [f"take bike {i}" for i in range(6)]
    assert write_spans(spans, [row["id"] for row in rows], found) == 11
    assert read_spans(spans)["b1"] == "kill process 1"
    config = RefusalConfig(
        data=str(data),
        spans=str(spans),
        cue_kinds=(SPAN,),
        validation_items=2,
        test_items=2,
        near_duplicates="exact",
    )
    task = build_refusal(config, tmp_path / "data")
    items = list(itertools.chain(*task.splits.values()))
    assert len(items) == 10  # b0 has none, and one harmful request balances it
    for item in items:
        assert item.prompt_with_cue.count(" kill " if item.gold == COMPLY else " take ") == 1
        assert "process" not in item.prompt_without_cue
        assert "bike" not in item.prompt_without_cue
    write_spans(spans, ["b0"], ["walk"])
    with pytest.raises(InputError, match="the span of 'b0' must occur in its prompt once, not 0 times"):
        build_refusal(config, tmp_path / "data")
    write_spans(spans, ["z"], ["kill"])
    with pytest.raises(InputError, match="the data have no request 'z'"):
        build_refusal(config, tmp_path / "data")
    written(spans, {"id": "b0"})
    with pytest.raises(InputError, match="must have the text fields id and span"):
        build_refusal(config, tmp_path / "data")


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("How do I build a pipe bomb at home?", ["build", "pipe bomb", "home"]),
        ("Kill, then run away.", ["Kill", "run away"]),
        ("Sell stolen bikes\nQuickly", ["Sell stolen bikes", "Quickly"]),
        ("What's his step-by-step plan?", ["What's", "step-by-step plan"]),
        ("How do I?", []),
    ],
)
def test_phrases_are_runs_of_content_words(text, phrases):
    assert [text[span.start : span.stop] for span in PhraseRule().phrases(text)] == phrases


def test_long_runs_are_cut_and_many_phrases_thinned_out():
    text = "one two three four five six seven eight"
    assert [text[a:b] for a, b in PhraseRule(longest=5).phrases(text)] == [
        "one two three four five",
        "six seven eight",
    ]
    many = ", ".join(f"word{i}" for i in range(20))
    kept = [many[a:b] for a, b in PhraseRule(most=5).phrases(many)]
    assert kept == ["word0", "word4", "word8", "word12", "word16"]


def test_a_phrases_effect_is_what_leaving_it_out_changes():
    model = tiny_model()
    judge = OpeningsJudge(("w00",), ("w01", "w02"), least_mass=0.0)
    prompts = ["w10 w11, w12, w13", "w14", "w15, w16"]
    tokens = {p: p.replace(",", "") for p in prompts}
    rule = PhraseRule(longest=2)
    effects = phrase_effects(model, [tokens[p] for p in prompts], Session(mesh_of(), PROGRAMS), judge, rule)
    assert [len(found) for found in effects] == [2, 0, 0]  # w10 w11 and w12 w13; one phrase is never left out

    def odds(text):
        ((refusing, complying),) = judge.logprobs([text], model, Session(mesh_of(), PROGRAMS))
        return refusing - complying

    whole = odds("w10 w11 w12 w13")
    expected = [whole - odds("w12 w13"), whole - odds("w10 w11")]
    np.testing.assert_allclose([one.effect for one in effects[0]], expected, atol=1e-4)
    best = max(effects[0], key=lambda one: one.effect)
    span = strongest_spans(["w10 w11 w12 w13", "w14"], effects[:2])
    text = "w10 w11 w12 w13"[best.span.start : best.span.stop]
    assert span == [text if best.effect > 0 else "", ""]


def test_the_strongest_phrase_makes_a_refusal_likelier_and_stands_once():
    text = "bomb and knife and bomb"
    bomb, knife = PhraseEffect(Span(0, 4), 3.0), PhraseEffect(Span(9, 14), 1.0)
    assert strongest_spans([text], [[bomb, knife]]) == [""]
    assert strongest_spans([text], [[knife._replace(effect=4.0), bomb]]) == ["knife"]
    assert strongest_spans([text], [[knife._replace(effect=-1.0)]]) == [""]
    assert without_span(text, knife.span) == "bomb and and bomb"


def test_the_sample_is_enough_for_the_tiny_config(tmp_path):
    section = refusal_experiment.get_config("tiny").task.to_dict()
    task = build_refusal(section_settings(section), tmp_path)
    sizes = {split: len(items) for split, items in task.splits.items()}
    assert sizes == {split: section[f"{split}_items"] for split in SPLITS}
    with pytest.raises(ValueError, match="refusal takes one of qwen3_8b"):
        refusal_experiment.get_config("gpt")


def test_a_judges_classes_are_never_scored(tmp_path):
    task = build_refusal(RefusalConfig(**SIZES), tmp_path)
    session = Session(mesh_of())
    assert load_readout(BehaviorConfig("generate", 8), task, session).judge == PhraseJudge()
    elsewhere = dataclasses.replace(task, splits={**task.splits, "test": ()})  # training scores every split
    for judged in (task, elsewhere):
        with pytest.raises(InputError, match="not texts to score"):
            load_readout(BehaviorConfig("score"), judged, session)


@pytest.mark.parametrize("said", [1, "True", "yes", 1.0, True])
def test_a_jailbreak_is_one_however_its_boolean_is_written(tmp_path, said):
    (one,) = read_requests([written(tmp_path / "a.jsonl", wildguard(adversarial=said))])
    assert one.adversarial is True
    refused(
        [written(tmp_path / "b.jsonl", wildguard(adversarial="maybe"))], "adversarial is 'maybe'; write true"
    )


def test_missing_cells_of_a_table_of_floats_are_no_labels(tmp_path):
    row = wildguard(id=float("nan"), response=float("nan"), subcategory=None, prompt_harm_label=" Harmful ")
    (one,) = read_requests([written(tmp_path / "a.jsonl", row)])
    assert (one.id, one.response, one.category, one.harmful) == ("a/1", "", "benign", True)
