"""The user's own file as a task: its splits, its sizes, and right scores."""

import functools
from pathlib import Path

import numpy as np
import pytest
from jsonl_cases import many, row, write
from reference_decoder import reference_token_logprobs
from tiny import mesh_of, tiny_model, tiny_tokenizer

from introspection.errors import InputError
from introspection.probes.judges import PhraseJudge
from introspection.probes.scored import behavior_requests, decisions, probe_behavior
from introspection.runtime.session import Session
from introspection.tasks.items import Conversation
from introspection.tasks.jsonl.files import problems_of, read_jsonl
from introspection.tasks.jsonl.task import JsonlConfig, build_jsonl
from introspection.tasks.raw_files import raw_source
from introspection.tasks.task import SPLITS


def built(tmp_path, *rows, **fields):
    return build_jsonl(JsonlConfig(data=str(write(tmp_path, *rows)), **fields), tmp_path)


def test_the_order_of_candidates_does_not_tell_which_is_right_or_cued(tmp_path):
    rows = many(3, gold="Paris", cued="Nice")
    rows[0] = rows[0] | {"cued": None, "gold": None}
    rows[2] = row(["candidates"], judge="refusal", group="group 1", id="j", gold="comply")
    task = built(tmp_path, *rows)
    items = {item.id: item for split in SPLITS for item in task.splits[split]}
    assert items["2/0"].candidates == items["0/0"].candidates == ("Lyon", "Nice", "Paris")
    assert (items["2/0"].gold, items["2/0"].cued) == ("Paris", "Nice")
    assert (items["0/0"].gold, items["0/0"].cued) == ("", "")
    assert items["j"].candidates == PhraseJudge.classes  # by which a judge knows what it is to read


def test_splits_are_drawn_by_group_and_no_question_is_on_both_sides(tmp_path):
    rows = many(30)
    # Another group that asks what group 3 asks, but for case, accents and white space.
    rows += [row(id=f"twin/{i}", group=f"twin {i}", prompt_without_cue=f" QUÉSTION  {i}?") for i in range(9)]
    seen = set()
    for seed in range(4):
        task = built(tmp_path, *rows, seed=seed)
        groups = {split: {item.group for item in task.splits[split]} for split in SPLITS}
        assert sum(map(len, task.splits.values())) == 69
        assert not groups["train"] & groups["test"]
        assert not groups["validation"] & (groups["train"] | groups["test"])
        group_of = {item.id: item.group for split in SPLITS for item in task.splits[split]}
        for i in range(9):
            assert group_of[f"twin/{i}"] == group_of[f"{i}/0"]  # one question is one group everywhere
        assert (len(groups["validation"]), len(groups["test"])) == (3, 9)
        seen.add(tuple(sorted(groups["test"])))
    assert len(seen) == 4
    assert built(tmp_path, *rows, seed=1).splits == built(tmp_path, *rows, seed=1).splits


def test_given_splits_have_one_group_a_question_and_ask_none_in_two(tmp_path):
    rows = [r | {"split": SPLITS[i // 2 % 3], "group": f"own {i}"} for i, r in enumerate(many(30))]
    task = built(tmp_path, *rows)
    asked = {item.group: item.prompt_without_cue for split in SPLITS for item in task.splits[split]}
    assert len(asked) == len(set(asked.values()))
    accents = [
        row(prompt_without_cue=f"¿Qué {word} es?", id=word, group=word, split=split, prompt_with_cue="Hm?")
        for word, split in (("año", "train"), ("ano", "test"))
    ]
    assert len(built(tmp_path, *rows, *accents).splits["train"]) == 21
    again = rows[0] | {"id": "again", "group": "another", "split": "test"}
    again["prompt_without_cue"] = again["prompt_without_cue"].removesuffix("?")
    with pytest.raises(InputError, match=r"asks in test what line 1 asks in train: put both into one split"):
        built(tmp_path, *rows, again)


def test_given_splits_stand_and_fewer_items_are_drawn_by_group(tmp_path):
    rows = [r | {"split": SPLITS[i // 2 % 3]} for i, r in enumerate(many(30))]
    task = built(tmp_path, *rows, train_items=7)
    assert {item.group for item in task.splits["test"]} == {f"group {g}" for g in range(2, 30, 3)}
    train = [item.id for item in task.splits["train"]]
    assert len(train) == 7
    assert len({item.group for item in task.splits["train"]}) == 4
    assert train == sorted(train, key=lambda name: [int(part) for part in name.split("/")])
    with pytest.raises(InputError, match="no row has the split 'validation'"):
        built(tmp_path, *[r | {"split": "train" if r["split"] == "validation" else r["split"]} for r in rows])


def test_three_groups_are_enough_and_two_are_not(tmp_path):
    task = built(tmp_path, *many(3), validation_share=0.49, test_share=0.49)
    assert [len(task.splits[split]) for split in SPLITS] == [2, 2, 2]
    with pytest.raises(InputError, match="only 2 groups ask different questions"):
        built(tmp_path, *many(2))


def test_labels_of_another_file_or_question_are_another_template(tmp_path):
    versions = {
        built(tmp_path, *many(3)).template_version,
        built(tmp_path, *many(4)).template_version,
        built(tmp_path, *many(3), explanation_question="And without the remark?").template_version,
    }
    assert len(versions) == 3
    assert built(tmp_path, *many(3)).template_version in versions
    asked = built(tmp_path, *many(3), explanation_question="And without the remark?")
    assert asked.grammar.question == "And without the remark?"


def test_a_folder_holds_several_files_and_a_missing_one_says_what_to_do(tmp_path):
    write(tmp_path, *many(3), name="a.jsonl")
    write(tmp_path, row(id="0/0"), name="b.jsonl")
    (found,) = problems_of(tmp_path)
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert str(found) == f"{other}: line 1: id: '0/0' is already used in {one}: line 1"
    for data, named in ((str(tmp_path / "no.jsonl"), "no.jsonl"), ("", "raw/jsonl")):
        with pytest.raises(InputError, match=f"{named}: no such file"):
            build_jsonl(JsonlConfig(data=data), tmp_path)
    (tmp_path / "blank.jsonl").write_bytes(b"\n\r\n")
    with pytest.raises(InputError, match="the file has no rows"):
        read_jsonl(tmp_path / "blank.jsonl")


@pytest.mark.parametrize(
    "fields",
    [dict(test_items=-1), dict(test_share=0.9, validation_share=0.1), dict(explanation_question=" ")],
)
def test_fields_that_no_file_fits_are_refused(fields):
    with pytest.raises(InputError, match=r"config\.task"):
        JsonlConfig(**fields)


def test_the_sample_is_good_and_has_every_form_of_row():
    assert problems_of(raw_source("sample", Path(), "jsonl")) == []
    rows = read_jsonl(raw_source("sample", Path(), "jsonl"))
    assert {isinstance(row.prompt_with_cue, Conversation) for row in rows} == {True, False}
    roles = {
        tuple(t.role for t in r.prompt_with_cue.turns) for r in rows if not isinstance(r.prompt_with_cue, str)
    }
    assert roles == {("system", "user"), ("system", "user", "assistant", "user")}
    assert {bool(row.cued) for row in rows} == {True, False}
    task = build_jsonl(JsonlConfig(data="sample"), Path())
    assert [len(task.splits[split]) for split in SPLITS] == [30, 5, 15]


def test_candidates_that_begin_with_one_another_are_scored_with_their_ends(tmp_path):
    nested = ["w10", "w10 w11", "w10 w11 w12", "w11"]
    asked = [dict(prompt_with_cue=f"w0{i} w05 w06", prompt_without_cue=f"w0{i} w05") for i in range(9)]
    rows = [
        row(id=str(i), group=str(i), candidates=[*nested[i % 4 :], *nested[: i % 4]], **prompts)
        for i, prompts in enumerate(asked)
    ]
    task = built(tmp_path, *rows)
    items = [item for split in SPLITS for item in task.splits[split]]
    tokenizer = tiny_tokenizer()
    for request, item in zip(behavior_requests(tokenizer, items)[::2], items, strict=True):
        texts = dict(zip(item.candidates, request.continuations, strict=True))
        assert all(tokens[-1] == tokenizer.end_id for tokens in texts.values())
        assert texts["w10"] == (*texts["w10 w11"][:1], tokenizer.end_id)
    model = tiny_model()
    behaviors = probe_behavior(model, items, Session(mesh_of()))
    decided = decisions(behaviors, items)
    for item, behavior, decision in zip(items, behaviors, decided, strict=True):
        prompt = tokenizer.encode_prompt(item.prompt_with_cue)
        replies = [tokenizer.encode_reply(candidate) for candidate in item.candidates]

        def scores(replies, prompt=prompt):
            naive = functools.partial(reference_token_logprobs, model.config, model.variables, prompt)
            return [naive(reply).sum() for reply in replies]

        expected = scores(replies)
        np.testing.assert_allclose(behavior.with_cue[:-1], expected, atol=1e-4)
        # Each is an answer of its own: what they have together is at most what both first words have.
        begins = scores(tokenizer.encode_reply(word)[:1] for word in ("w10", "w11"))
        assert np.exp(expected).sum() <= np.exp(begins).sum() + 1e-6
        assert np.exp(behavior.with_cue.astype(float)).sum() == pytest.approx(1, abs=1e-5)
        best = int(np.argmax(behavior.with_cue))
        assert decision.with_cue == (*item.candidates, "none")[best]


def test_what_sizes_leave_out_is_said(tmp_path):
    assert built(tmp_path, *many(5)).notes == ()
    (note,) = built(tmp_path, *many(5), train_items=2, validation_items=1, test_items=1).notes
    assert note.startswith("uses 4 of 10 rows (train 2, validation 1, test 1; config.task.train_items")
