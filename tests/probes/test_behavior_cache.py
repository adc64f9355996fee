"""Behaviour that was read before: the same to the last bit, and asked anew wherever it could differ."""

import dataclasses
import functools
import os

import numpy as np
import pytest
from elsewhere import chat_folder
from tiny import mesh_of, task_model, tiny_task

from introspection.checkpoints.names import load_one, model_fingerprint
from introspection.probes import behavior_cache
from introspection.probes.behavior import Readout, read_behavior, request_count
from introspection.probes.behavior_cache import behavior_key, read_behavior_once
from introspection.probes.judges import PhraseJudge
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.items import NONE
from introspection.text.chat_template import ChatOptions

ITEMS = tiny_task().splits["train"][:5]
READOUTS = {"score": Readout(), "generate": Readout("generate", 3)}
PROGRAMS = ProgramTable()


@functools.cache
def model(seed=1):
    return task_model(seed)


def key(model, items=ITEMS, readout=READOUTS["score"]) -> str:
    return behavior_key(model, model_fingerprint(model), items, readout)


def asked(path, items=ITEMS, readout=READOUTS["score"]):
    """What is read, and how many calls of a program it took."""
    before = call_count()
    probe = read_behavior_once(model(), items, readout, path, Session(mesh_of(), PROGRAMS))
    return probe, call_count() - before


def call_count() -> int:
    return sum(calls for _, _, calls, _ in PROGRAMS.rows())


def assert_equal(one, other):
    assert one.decisions == other.decisions
    assert type(one.behaviors[0]) is type(other.behaviors[0])
    for here, there in zip(one.behaviors, other.behaviors, strict=True):
        for a, b in zip(here, there, strict=True):
            if isinstance(a, np.ndarray):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
            else:
                assert a == b


@pytest.mark.parametrize("readout", READOUTS.values(), ids=READOUTS)
def test_progress_counts_what_is_asked_once(readout):
    items = [*ITEMS, dataclasses.replace(ITEMS[0], id="again"), ITEMS[1]]
    items.append(dataclasses.replace(ITEMS[2], id="others", candidates=ITEMS[2].candidates[:-1]))
    done = []
    read_behavior(model(), items, readout, Session(mesh_of()), done.append)
    assert sum(done) == request_count(items, readout) < 2 * len(items)


@pytest.mark.parametrize("kind", READOUTS)
def test_what_was_asked_before_is_the_same_and_is_not_asked_again(tmp_path, kind):
    path, readout = tmp_path / "behaviors" / "key.json", READOUTS[kind]
    first, calls = asked(path, readout=readout)
    assert calls
    assert_equal(first, read_behavior(model(), ITEMS, readout, Session(mesh_of())))
    again, calls = asked(path, readout=readout)
    assert calls == 0
    assert_equal(again, first)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["", "[", "[[1, 2]]", "{}", "null"])
@pytest.mark.parametrize("kind", READOUTS)
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path, kind, damage):
    path, readout = tmp_path / "key.json", READOUTS[kind]
    path.write_text(damage)
    probe, calls = asked(path, readout=readout)
    assert calls
    again, calls = asked(path, readout=readout)
    assert calls == 0
    assert_equal(again, probe)


def test_a_folder_that_can_not_be_written_stops_no_run(tmp_path):
    (tmp_path / "behaviors").write_text("a file")
    probe, calls = asked(tmp_path / "behaviors" / "key.json")
    assert calls
    assert len(probe.decisions) == len(ITEMS)


def test_what_is_known_is_told_where_it_is(tmp_path):
    told, path = [], tmp_path / "key.json"
    for expected in ([], ["known"]):
        read_behavior_once(
            model(),
            ITEMS,
            READOUTS["score"],
            path,
            Session(mesh_of()),
            known=lambda: told.append("known"),
        )
        assert told == expected
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_a_judge_judges_anew(tmp_path, monkeypatch):
    path, readout = tmp_path / "key.json", READOUTS["generate"]
    items = [dataclasses.replace(item, candidates=PhraseJudge.classes) for item in ITEMS]
    judged = dataclasses.replace(readout, judge=PhraseJudge())
    assert key(model(), items, judged) == key(model(), items, readout)
    before, _ = asked(path, items, judged)
    monkeypatch.setattr(PhraseJudge, "judge", lambda judge, said, *_: [judge.classes[0]] * len(said))
    after, calls = asked(path, items, judged)
    assert calls == 0
    assert after.behaviors == before.behaviors
    assert {decision for both in after.decisions for decision in both} == {PhraseJudge.classes[0]}


def test_the_model_the_prompts_and_the_readout_are_in_its_name(monkeypatch):
    one, tokens = model(), READOUTS["generate"]
    reworded = dataclasses.replace(ITEMS[0], prompt_with_cue=ITEMS[1].prompt_with_cue)
    fewer = dataclasses.replace(ITEMS[0], candidates=ITEMS[0].candidates[:2])
    names = [
        key(one),
        key(model(2)),
        key(dataclasses.replace(one, config=dataclasses.replace(one.config, scan_unroll=2))),
        key(one, ITEMS[:4]),
        key(one, ITEMS[::-1]),
        key(one, (reworded, *ITEMS[1:])),
        key(one, (fewer, *ITEMS[1:])),
        key(one, readout=tokens),
        key(one, readout=Readout("generate", 4)),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(behavior_cache, "VERSION", 0)
        names.append(key(one))
    assert len(set(names)) == len(names)
    assert key(one) == names[0]


def test_how_a_model_is_addressed_is_in_its_name(tmp_path):
    folder = str(chat_folder(tmp_path / "base"))
    plain = load_one(folder, mesh_of())
    other = load_one(folder, mesh_of(), ChatOptions(system="Be brief."))
    assert model_fingerprint(plain) == model_fingerprint(other)
    assert key(plain, readout=READOUTS["generate"]) != key(other, readout=READOUTS["generate"])


def test_likeliest_decides_among_the_candidates_from_the_same_scores():
    scores = READOUTS["score"]
    likeliest = read_behavior(model(), ITEMS, Readout("likeliest"), Session(mesh_of()))
    scored = read_behavior(model(), ITEMS, scores, Session(mesh_of()))
    assert key(model(), readout=Readout("likeliest")) == key(model())
    for item, decided, behavior, free in zip(
        ITEMS, likeliest.decisions, likeliest.behaviors, scored.decisions, strict=True
    ):
        for side in ("with_cue", "without_cue"):
            *candidates, none = getattr(behavior, side)
            best = item.candidates[candidates.index(max(candidates))]
            assert getattr(decided, side) == best
            assert getattr(free, side) == (NONE if none > max(candidates) else best)
    assert NONE in {side for pair in scored.decisions for side in pair}  # else this test tells nothing
