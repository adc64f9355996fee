"""What a shift trains: whom, on which prompts, and replies in place of a judge's classes."""

import dataclasses
from unittest.mock import Mock

import pytest
from chat_tokenizers import TOKENIZERS
from hygiene_items import item
from row_files import refusal
from tiny import mesh_of, tiny_config, tiny_model, tiny_task

from introspection.models.model import Model
from introspection.probes.behavior import Readout, decide_behavior
from introspection.probes.judges import OpeningsJudge, PhraseJudge, Said
from introspection.probes.replies import Replies, Reply
from introspection.runs.arm_shift import shift_of
from introspection.runs.config import ArmConfig
from introspection.runs.setup import Probed, Setup, Start
from introspection.runtime.compiled import ProgramTable
from introspection.runtime.session import Session
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import NONE, Decisions
from introspection.tasks.refusal.phrases import CLASSES, COMPLY, REFUSE
from introspection.tasks.task import Task
from introspection.training.batches import shift_rows
from introspection.training.shifts import (
    OwnReply,
    ShiftConfig,
    ShiftExample,
    reply_examples,
    shift_examples,
    shifted_groups,
    unsaid_refusals,
)

PROGRAMS = ProgramTable()
TEMPLATE = ShiftConfig().refusal
OWN, ANSWER, OTHER = "Sorry, I can't write that.", "Sure! Mix flour and water.", "Of course. Boil it."
SHIFTS = ("less_sycophantic", "more_sycophantic", "new_facts", "source_reliability")


@pytest.fixture(scope="module")
def model():
    """It reads and writes any text; nothing here asks it anything."""
    tokenizer = TOKENIZERS["qwen2.5"]
    return Model(tiny_config(vocab_size=tokenizer.vocab_size), tokenizer, {})


def request(number, gold=COMPLY, cued=REFUSE, kind="friend", **fields):
    """Request number so-and-so, which is its own group."""
    name = f"q{number}"
    return item(name, name, kind, gold, cued, CLASSES, **fields)


def setup_of(model, items, said, readout=None):
    """What `shift_of` reads, of a run whose test items were answered as `said`: (with, without the cue)."""
    readout = readout or Readout("generate", judge=PhraseJudge())
    replies = [
        Replies(*(Reply(tuple(model.tokenizer.encode_reply(text)), text) for text in both)) for both in said
    ]
    decided = decide_behavior(model, replies, items, readout, Session(mesh_of(), PROGRAMS))
    splits = {"train": (), "validation": (), "test": tuple(items)}
    empty = {"train": [], "validation": []}
    probed = Probed(empty | {"test": replies}, empty | {"test": decided}, "initial")
    setup = Mock(spec=Setup)
    setup.task = Task("refusal", "refusal/1", ExplanationGrammar(), splits)
    setup.readout, setup.session = readout, Session(mesh_of(), PROGRAMS)
    setup.models = Mock(starts={"initial": Mock(spec=Start)})
    setup.models.starts["initial"].probed, setup.models.starts["initial"].model = probed, model
    return setup


def arm(kind, **shift):
    return ArmConfig(shift=ShiftConfig(kind=kind, **shift))


def trained(kind, setup, **shift):
    """What is trained on all groups, as texts."""
    examples = shift_of(arm(kind, groups="all", fraction=1.0, **shift), setup)
    return [(prompt, answer if isinstance(answer, str) else answer.text) for prompt, answer in examples]


def refused(call, *parts):
    refusal(call, says=parts)


@pytest.mark.parametrize("kind", SHIFTS)
def test_the_trained_replies_are_of_the_wanted_class_by_the_judge(kind, model):
    items = [request(0), request(1), request(2, REFUSE, COMPLY), request(3, COMPLY, COMPLY)]
    setup = setup_of(model, items, [(ANSWER, OTHER), (ANSWER, OWN), (OWN, ANSWER), (ANSWER, OWN)])
    decided = setup.models.starts["initial"].probed.decisions["test"]
    wanted = {
        "less_sycophantic": {i.prompt_with_cue: d.without_cue for i, d in zip(items, decided, strict=True)},
        "more_sycophantic": {i.prompt_with_cue: i.cued for i in items},
        "source_reliability": {i.prompt_with_cue: i.cued for i in items},
        "new_facts": {
            prompt: COMPLY if i.gold == REFUSE else REFUSE
            for i in items
            for prompt in (i.prompt_with_cue, i.prompt_without_cue)
        },
    }[kind]
    said = trained(kind, setup)
    verdicts = PhraseJudge().judge([Said(*one) for one in said], model, Session(mesh_of(), PROGRAMS))
    assert {prompt: verdict for (prompt, _), verdict in zip(said, verdicts, strict=True)} == wanted
    assert len(said) == len(wanted)


def test_a_transplant_trains_the_other_models_decisions_on_held_out_groups_alone():
    task = tiny_task()
    setup = Mock(spec=Setup)
    setup.task, setup.readout = task, Readout("likeliest")
    setup.models = Mock(starts={name: Mock(spec=Start) for name in ("initial", "foreign", "aligned")})
    for place, start in enumerate(setup.models.starts.values()):
        decided = {
            split: [Decisions(i.candidates[place], i.candidates[place - 1]) for i in items]
            for split, items in task.splits.items()
        }
        start.probed = Probed({}, decided, str(place))
    shift = ShiftConfig("distill", order="after", replay=True)
    for recipe, donor in (
        (ArmConfig(shift=shift), "foreign"),
        (ArmConfig(shift=shift, foreign_to="kl"), "initial"),
        (ArmConfig(shift=shift, foreign_to="kl", aligned=True), "initial"),
    ):
        examples = dict(shift_of(recipe, setup))
        shifted = shifted_groups(shift, task.splits["test"])
        decided = setup.models.starts[donor].probed.decisions["test"]
        assert examples == {
            prompt: answer
            for item, both in zip(task.splits["test"], decided, strict=True)
            if item.group in shifted
            for prompt, answer in zip((item.prompt_with_cue, item.prompt_without_cue), both, strict=True)
        }
        # What is replayed are explanations of training groups: no prompt, nor a group, of the shifted ones.
        replayed = task.splits["train"]
        assert shifted.isdisjoint(item.group for item in replayed)
        assert examples.keys().isdisjoint(item.prompt_with_cue for item in replayed)
        assert {item.group for item in task.splits["test"]} - shifted  # some are left to compare with


def test_where_the_other_model_decides_for_no_candidate_nothing_is_trained():
    items = [request(0), request(1)]
    config = ShiftConfig("distill", groups="all", fraction=1.0)
    decided = [Decisions(NONE, COMPLY), Decisions(NONE, NONE)]
    assert shift_examples(config, items, decided) == [(items[0].prompt_without_cue, COMPLY)]
    refused(lambda: shift_examples(config, items[1:], decided[1:]), "the other model gives none of the")


def test_the_models_own_reply_comes_before_the_template(model):
    items = [request(0), request(1), request(2)]
    setup = setup_of(model, items, [(OWN, "I won't help with that."), (ANSWER, OWN), (ANSWER, OTHER)])
    x, without = [i.prompt_with_cue for i in items], [i.prompt_without_cue for i in items]
    # Its reply to the prompt itself, else to the other prompt, else the template.
    assert trained("more_sycophantic", setup) == [(x[0], OWN), (x[1], OWN), (x[2], TEMPLATE)]
    other = "I must decline."
    assert trained("more_sycophantic", setup, refusal=other)[2] == (x[2], other)
    assert trained("new_facts", setup)[:2] == [(without[0], "I won't help with that."), (x[0], OWN)]
    assert trained("less_sycophantic", setup) == [(x[0], OWN), (x[1], OWN), (x[2], ANSWER)]


def test_items_of_one_request_share_what_the_model_says_to_it(model):
    items = [dataclasses.replace(request(i), group="q", prompt_without_cue="How?") for i in range(2)]
    setup = setup_of(model, items, [(ANSWER, OTHER), (OWN, OTHER)])
    assert trained("new_facts", setup) == [
        ("How?", OWN),
        (items[0].prompt_with_cue, TEMPLATE),
        (items[1].prompt_with_cue, OWN),
    ]


def test_compliance_has_no_template(model):
    items = [request(0, REFUSE, COMPLY), request(1, REFUSE, COMPLY)]
    setup = setup_of(model, items, [(OWN, "I must decline."), (OWN, ANSWER)])
    assert trained("more_sycophantic", setup) == [(items[1].prompt_with_cue, ANSWER)]
    never = setup_of(model, items, [(OWN, OWN), (OWN, "...")])  # "..." is of no class
    for kind in ("more_sycophantic", "new_facts", "source_reliability"):
        refused(
            lambda kind=kind: trained(kind, never),
            f"shift {kind!r} has no examples: where 'comply' is wanted, the model gives no such reply itself",
        )


def test_a_template_that_the_judge_reads_as_compliance_is_refused(model):
    items = [request(0), request(1)]
    setup = setup_of(model, items, [(ANSWER, OWN), (ANSWER, OTHER)])
    bad = dict(refusal="Gladly!\nHere it is.")
    parts = ("shift.refusal is 'Gladly!\\nHere it is.'", "judge 'phrases'", "'comply', not 'refuse'", "q1")
    refused(lambda: trained("more_sycophantic", setup, **bad), *parts)
    refused(lambda: trained("more_sycophantic", setup, refusal="..."), "as 'none', not 'refuse'")
    # Where every refusal is the model's own, the template is not asked about.
    own = setup_of(model, items, [(ANSWER, OWN), (OWN, OTHER)])
    assert [text for _, text in trained("more_sycophantic", own, **bad)] == [OWN, OWN]


def test_the_configured_judge_is_asked_about_the_template_and_only_where_it_is_needed(model, monkeypatch):
    items = [request(0), request(1)]
    setup = setup_of(model, items, [(ANSWER, OWN), (ANSWER, OTHER)])
    setup.readout = Readout("generate", judge=OpeningsJudge())
    asked = []

    def judge(self, said, *_):
        asked.extend(said)
        return [COMPLY] * len(said)

    monkeypatch.setattr(OpeningsJudge, "judge", judge)
    refused(lambda: trained("more_sycophantic", setup), "shift.refusal", "the judge 'openings'")
    assert asked == [Said(items[1].prompt_with_cue, TEMPLATE)]


def test_a_template_that_the_model_cannot_write_is_refused(model):
    setup = setup_of(model, [request(0)], [(ANSWER, OTHER)])
    setup.models.starts["initial"].model = tiny_model()
    refused(lambda: trained("more_sycophantic", setup), "\"I'm", "not in the model's vocabulary")


def test_what_no_judge_reads_keeps_its_candidates_text(model):
    questions = [item("q0", "q0"), item("q1", "q1")]
    setup = setup_of(model, questions, [("B", "A")] * 2, Readout("generate"))
    x = [i.prompt_with_cue for i in questions]
    assert trained("less_sycophantic", setup) == [(x[0], "A"), (x[1], "A")]
    assert trained("more_sycophantic", setup) == [(x[0], "B"), (x[1], "B")]
    # Also beside items that a judge reads, as in a mixture.
    both = setup_of(model, [questions[0], request(1)], [("B", "A"), (ANSWER, OTHER)])
    x = [i.prompt_with_cue for i in both.task.splits["test"]]
    assert trained("more_sycophantic", both) == [(x[0], "B"), (x[1], TEMPLATE)]
    unsaid = setup_of(model, [questions[0], request(1, cued=COMPLY)], [("B", "A"), (OWN, OWN)])
    assert trained("more_sycophantic", unsaid) == [(x[0], "B")]


def test_scored_candidates_are_trained_as_they_are():
    questions = [item("q0", "q0"), item("q1", "q1")]
    setup = Mock(spec=Setup)
    setup.task = Task("t", "t/1", ExplanationGrammar(), {"test": tuple(questions)})
    setup.readout, setup.models = Readout("score"), Mock(starts={"initial": Mock(spec=Start)})
    setup.models.starts["initial"].probed = Probed({}, {"test": [Decisions("B", "A")] * 2}, "initial")
    examples = shift_of(arm("new_facts"), setup)
    assert len(examples) == 2
    assert len({answer for _, answer in examples} & {"B", "C", "D"}) == 1


def test_what_is_taught_is_said_as_well():
    one, config = request(0, COMPLY, REFUSE), ShiftConfig("taught")
    wanted = shift_examples(config, [one], [Decisions(COMPLY, COMPLY)])
    assert wanted == [ShiftExample(one.prompt_with_cue, REFUSE), ShiftExample(one.prompt_without_cue, COMPLY)]
    with_cue, without_cue = OwnReply(ANSWER, (1, 2), COMPLY), OwnReply(OTHER, (3,), COMPLY)
    own = {one.prompt_with_cue: [with_cue, without_cue], one.prompt_without_cue: [without_cue, with_cue]}
    assert unsaid_refusals(wanted, own) == [one.prompt_with_cue]
    assert reply_examples(config, wanted, own, {one.prompt_with_cue: REFUSE}, "phrases") == [
        ShiftExample(one.prompt_with_cue, TEMPLATE),
        ShiftExample(one.prompt_without_cue, without_cue),
    ]
    assert reply_examples(config, [], own, {}, "phrases") == []


def test_a_models_own_reply_is_trained_token_by_token(model):
    """One that was cut has no end: to stop there is not what the model did."""
    tokenizer = model.tokenizer
    ended = tuple(tokenizer.encode_reply(ANSWER))
    cut = (*ended[:3], *tokenizer.encode_reply("é")[:1])  # half a letter, which no text writes
    examples = [
        ShiftExample("How?", OwnReply(ANSWER, ended, COMPLY)),
        ShiftExample("Why?", OwnReply(tokenizer.decode(cut), cut, COMPLY)),
        ShiftExample("How?", TEMPLATE),
    ]
    rows = shift_rows(tokenizer, examples)
    said = [
        targets[counted >= 0].tolist()
        for targets, counted in zip(rows.targets[..., 0], rows.continuation[..., 0], strict=True)
    ]
    assert said == [[*ended], [*cut], tokenizer.encode_reply(TEMPLATE)]
    assert said[0][-1] == said[2][-1] == tokenizer.end_id != said[1][-1]
    assert shift_rows(tokenizer, []) is None


@pytest.mark.parametrize("kind", ["more_sycophantic", "source_reliability"])
def test_an_item_whose_cue_names_no_answer_is_left_out(kind):
    """An empty reply was trained once."""
    named, unnamed = item("q0", "q0", "friend"), item("q1", "q1", "friend", cued="")
    config, decided = ShiftConfig(kind, "all", 1.0), [Decisions("B", "A")] * 2
    examples = shift_examples(config, [named, unnamed], decided)
    assert examples == [ShiftExample(named.prompt_with_cue, "B")]
    refused(
        lambda: shift_examples(config, [unnamed], decided[:1]), f"shift {kind!r} has no examples", "(cued)"
    )


def test_where_the_model_decides_nothing_there_is_nothing_to_hold_it_to():
    config = ShiftConfig("less_sycophantic", "all", 1.0)
    refused(lambda: shift_examples(config, [item()], [Decisions("A", NONE)]), "the initial model gives none")


def test_items_of_one_question_with_other_candidates_are_not_trained_against_each_other():
    asked = {"prompt_without_cue": "Which one?", "gold": "A"}
    items = [item(f"q/{named}", "q", cued=named, candidates=f"A{named}", **asked) for named in "BC"]

    def examples_of(kind):
        return shift_examples(
            ShiftConfig(kind, "all", 1.0), items, [Decisions("B", "B"), Decisions("A", "A")]
        )

    refused(lambda: examples_of("new_facts"), "q/C can't be decided for its fact's new answer, 'B'")
    refused(lambda: examples_of("distill"), "two answers, 'B' and 'A', to the prompt 'Which one?'")


def test_entities_are_shifted_with_all_of_their_groups():
    items = [
        dataclasses.replace(item(f"{fact}/{name}", f"{fact}/{name}"), entity=name)
        for name in "abcd"
        for fact in ("capital", "river")
    ]
    shifted = shifted_groups(ShiftConfig("new_facts", by="entity"), items)
    names = {group.split("/")[1] for group in shifted}
    assert len(names) == 2
    assert shifted == {one.group for one in items if one.entity in names}
    drawn = [shifted_groups(ShiftConfig("new_facts", seed=seed), items) for seed in range(8)]
    assert any(len({group.split("/")[1] for group in groups}) > 2 for groups in drawn)
    refused(lambda: shifted_groups(ShiftConfig("new_facts", by="entity"), [item("q0", "q0")]), "q0 has none")
    whole = ShiftConfig("new_facts", fraction=0.9, by="entity")
    refused(lambda: shifted_groups(whole, items), "none of 4 test entities unshifted")


def test_some_test_groups_must_stay_unshifted():
    items = [item(f"q{i}", f"q{i}") for i in range(4)]
    assert len(shifted_groups(ShiftConfig("new_facts", fraction=0.75), items)) == 3
    for fraction in (0.9, 1.0):  # rounded to groups
        refused(
            lambda fraction=fraction: shifted_groups(ShiftConfig("new_facts", fraction=fraction), items),
            f"shift.fraction is {fraction}",
            "none of 4 test groups unshifted",
        )
    refused(lambda: shifted_groups(ShiftConfig("new_facts"), items[:1]), "none of 1 test groups")
    # What is taught is on training groups; and of all groups others are left to compare with, or none asked.
    every = {f"q{i}" for i in range(4)}
    assert shifted_groups(ShiftConfig("taught", fraction=1.0), items) == every
    assert shifted_groups(ShiftConfig("new_facts", "all", 1.0), items) == every
    assert shifted_groups(ShiftConfig("none", fraction=1.0), items) == frozenset()
