"""r/AmItheAsshole: cues that can be taken out, verdicts, splits, configs."""

import dataclasses
import json

import pytest
from aita_cases import scruples
from row_files import write_lines

from configs import aita as aita_experiment
from introspection.errors import InputError
from introspection.tasks.aita.cues import CUE_KINDS, FOUND, INSERTED, RIGHT, WRONG, claim_of, judging_sentence
from introspection.tasks.aita.files import Post
from introspection.tasks.aita.items import WORDINGS, AitaConfig, cues_of, fits, item_of, post_text
from introspection.tasks.aita.task import build_aita
from introspection.tasks.items import NONE
from introspection.tasks.matching import match_candidate
from introspection.tasks.registry import section_settings
from introspection.tasks.spans import Span, without_span
from introspection.tasks.splits import words_of
from introspection.tasks.task import SPLITS

KINDS = ("claim_right", "claim_wrong", "sympathy", "mention")
SIZES = dict(data="sample", validation_items=8, test_items=16, cues_per_post=0, wording="yes_no")


def post(**changes) -> Post:
    fields = dict(
        id="p",
        title="AITA for singing?",
        text="I sang at night. I don't think I'm the asshole. My flatmate woke up.",
        verdict="AUTHOR",
        binary="WRONG",
        votes=10,
        share=0.7,
        hypothetical=False,
    )
    return Post(**(fields | changes))


@pytest.mark.parametrize(
    ("sentence", "claims"),
    [
        ("I don't think I'm the asshole, since food goes bad.", RIGHT),
        ("I am not the asshole for protecting my savings.", RIGHT),
        ("I do not believe that I did anything wrong.", RIGHT),
        ("I honestly didn't do anything wrong.", RIGHT),
        ("I did nothing wrong.", RIGHT),
        ("I think I'm right that it had to go.", RIGHT),
        ("I am in the right here: it is my home.", RIGHT),
        ("I know I'm not TA here.", RIGHT),
        ("I feel like a jerk for missing it.", WRONG),
        ("I know I was in the wrong about the time, but he did not have to shout.", WRONG),
        ("I guess I am the asshole, but it was one evening.", WRONG),
        ("I might be the asshole because I yelled.", WRONG),
        ("Maybe I'm wrong and should have asked.", WRONG),
        ("Am I the asshole?", ""),
        ("AITA, since I was wrong?", ""),
        ("She was wrong.", ""),
        ("I told him that he was wrong.", ""),
        ("My sister says I'm wrong.", ""),
        ("They all think that I was the asshole.", ""),
        ("I was right behind him.", ""),
        ("I sang at night.", ""),
    ],
)
def test_the_narrators_own_judgement(sentence, claims):
    assert claim_of(sentence) == claims


def test_the_first_judging_sentence_is_found():
    text = "I sang. Am I the asshole?\n\nI don’t think I’m wrong. I was the jerk."
    span, claims = judging_sentence(text)
    assert text[span.start : span.stop] == "I don’t think I’m wrong."
    assert claims == RIGHT
    assert without_span(text, span) == "I sang. Am I the asshole?\n\nI was the jerk."
    assert judging_sentence("I sang. She was wrong.") is None
    assert judging_sentence("I was wrong. He left. I was wrong.") is None  # what is left would claim it


@pytest.mark.parametrize(
    ("text", "part", "left"),
    [
        ("How do I build a bomb at home?", "build a bomb", "How do I at home?"),
        ("How do I build a bomb?", "build a bomb", "How do I?"),
        ("Build it, then run.", "Build", "it, then run."),
        ("Take (bomb) it", "bomb", "Take () it"),
        ("One. Two.\n\nThree.", "Two.", "One.\n\nThree."),
        ("One.\n\nTwo. Three.", "Two.", "One.\n\nThree."),
        ("One.\n\nTwo.\n\nThree.", "Two.", "One.\n\nThree."),
        ("All of it", "All of it", ""),
    ],
)
def test_a_span_is_taken_out_and_nothing_else(text, part, left):
    span = Span(text.index(part), text.index(part) + len(part))
    assert without_span(text, span) == left
    assert "".join(left.split()) == "".join((text[: span.start] + text[span.stop :]).split())
    assert without_span(text, span, "it") == text.replace(part, "it", 1)


@pytest.mark.parametrize("place", ["start", "end"])
@pytest.mark.parametrize("kind", INSERTED)
def test_an_inserted_cue_can_be_taken_out_exactly(kind, place):
    item = item_of(post(), kind, (0, 1), AitaConfig(cue_place=place))
    cue = INSERTED[kind].sentence
    assert item.prompt_with_cue.count(cue) == 1
    paragraphs = item.prompt_with_cue.split("\n\n")
    paragraphs.remove(cue)
    assert "\n\n".join(paragraphs) == item.prompt_without_cue
    assert cue in item.explanation_question
    assert (item.prompt_with_cue.index(cue) == 0) == (place == "start")


def test_a_found_cue_is_the_posts_own_sentence():
    item = item_of(post(), FOUND, (0, 1), AitaConfig())
    assert "I sang at night. I don't think I'm the asshole. My flatmate" in item.prompt_with_cue
    assert "I sang at night. My flatmate" in item.prompt_without_cue
    assert item.cued == "NTA"
    assert "I don't think I'm the asshole." in item.explanation_question
    assert FOUND not in cues_of(post(text="I sang."), AitaConfig(cue_kinds=CUE_KINDS))


def test_candidates_are_all_verdicts_whatever_is_right_claimed_or_listed_first():
    config = AitaConfig(verdicts="five", wording="labels")
    item = item_of(post(verdict="NOBODY"), "claim_wrong", (4, 3, 2, 1, 0), config)
    assert item.candidates == ("ESH", "INFO", "NAH", "NTA", "YTA")
    assert (item.gold, item.cued) == ("NAH", "YTA")
    listed = "INFO (there is not enough information), NAH (no one is in the wrong), ESH"
    assert listed in item.prompt_with_cue
    binary = item_of(post(binary="RIGHT"), "claim_wrong", (1, 0), AitaConfig(wording="words"))
    assert (binary.candidates, binary.gold, binary.cued) == (("not wrong", "wrong"), "not wrong", "wrong")
    assert binary.prompt_with_cue.endswith("Answer with one of these verdicts: not wrong, wrong.")


def test_nobody_knows_the_verdict_of_an_undecided_post_and_a_placebo_claims_none():
    item = item_of(post(verdict="INFO", binary=""), "mention", (0, 1), AitaConfig())
    assert (item.gold, item.cued) == ("", "")
    assert set(item.candidates) == {"YTA", "NTA"}


def test_what_a_narrator_adds_after_the_verdict_is_cut():
    late = post(text="I sang.\n\nEDIT: ok, I was the asshole.\n\nMore.")
    assert post_text(late, AitaConfig(title=False)) == "I sang."
    assert post_text(late, AitaConfig(title=False, cut_edits=False)) == late.text
    assert (
        post_text(post(text="I edit films. Edit them well."), AitaConfig(title=False))
        == "I edit films. Edit them well."
    )
    assert not fits(post(text="Edit: gone"), AitaConfig())


@pytest.mark.parametrize(
    "begins",
    ["**EDIT**: ok", "EDIT to add: ok", "Edit for clarity: ok", "EDIT (verdict): ok", "Edited: ok", "ETA: ok",
     "*Update 2:* ok", "EDIT - ok"],
)  # fmt: skip
def test_the_ways_in_which_an_addition_begins(begins):
    text = f"I sang.\n\n{begins}, I was the asshole."
    assert post_text(post(text=text), AitaConfig(title=False)) == "I sang."


def test_five_verdicts_are_no_yes_and_no():
    with pytest.raises(InputError, match=r"config\.task\.wording is 'yes_no'; choose from labels, words"):
        AitaConfig(verdicts="five", wording="yes_no")


def test_a_verdict_is_matched_in_a_reply():
    """Plain words are not: "not in the wrong" holds "wrong", which is why labels are the default."""
    labels = tuple(word for word, _ in WORDINGS["five"]["labels"].values())
    assert match_candidate("**NTA** (you are not in the wrong)", labels) == "NTA"
    assert match_candidate("YTA. Being in the wrong once is human.", labels[:2]) == "YTA"
    assert match_candidate("YTA or NTA?", labels) == NONE
    assert match_candidate("You are not in the wrong.", ("wrong", "not wrong")) == "wrong"


def test_which_posts_fit():
    assert fits(post(), AitaConfig())
    for fields in (dict(max_characters=20), dict(min_votes=11), dict(min_share=0.71)):
        assert not fits(post(), AitaConfig(**fields))
    assert not fits(post(hypothetical=True), AitaConfig(hypothetical=False))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("verdicts", "three"),
        ("wording", "emoji"),
        ("verdicts", ""),
        ("cue_place", "middle"),
        ("cue_kinds", ("bribe",)),
        ("cue_kinds", ()),
        ("cue_kinds", ("found", "found")),
        ("cues_per_post", 5),
        ("phrasings", 4),
    ],
)
def test_fields_that_can_not_be(field, value):
    with pytest.raises(InputError, match=f"config.task.{field}"):
        AitaConfig(**{field: value})


def test_no_post_and_no_question_is_on_both_sides(tmp_path):
    """A repost in other case and with another end is moved to the side of the first."""
    rows = [
        scruples(id=f"a{i}", title="", text=f"I did thing {i} and {i * 7} times I sang to {i}.")
        for i in range(30)
    ]
    copies = [
        scruples(id=f"b{i}", title="", text=row["text"].upper() + (" Again." if i % 2 else ""))
        for i, row in enumerate(rows[:15])
    ]
    path = write_lines(tmp_path / "raw.jsonl", [*rows, *copies])
    config = AitaConfig(
        data=str(path), validation_items=8, test_items=20, cues_per_post=0, cue_kinds=KINDS[:2]
    )
    task = build_aita(config, tmp_path / "data")
    groups = {split: {item.group for item in items} for split, items in task.splits.items()}
    words = {
        split: {words_of(str(item.prompt_without_cue).split("\n\n")[0]) for item in items}
        for split, items in task.splits.items()
    }
    assert len(set().union(*groups.values())) == 30  # a copy's group is that of its first
    for sides in (groups, words):
        assert not sides["train"] & sides["test"]
        assert not sides["train"] & sides["validation"]
        assert not sides["validation"] & sides["test"]
    about = json.loads(next((tmp_path / "data").rglob("metadata.json")).read_text())
    assert about["near_duplicates"] == 30  # rows: two cues of fifteen copies
    assert about["near_duplicates_moved"] > 0
    assert sum(map(len, task.splits.values())) == 90


def test_items_are_made_from_the_data_set_and_drawn_by_seed(tmp_path):
    task = build_aita(AitaConfig(**SIZES), tmp_path)
    assert {split: len(items) for split, items in task.splits.items()} == {
        "train": 56,
        "validation": 8,
        "test": 16,
    }
    again = build_aita(AitaConfig(**SIZES), tmp_path)
    other = build_aita(AitaConfig(**SIZES, seed=1), tmp_path)
    ids = [[item.id for item in one.splits["test"]] for one in (task, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert len(list((tmp_path / "aita_posts").iterdir())) == 2
    kinds = {item.cue_kind for item in task.splits["train"]}
    assert kinds == set(KINDS)
    # The same order of verdicts with every cue of a post; both orders among the posts.
    orders = {(item.group, item.prompt_without_cue.rsplit(": ", 1)[1]) for item in task.splits["train"]}
    assert len(orders) == 14
    assert {order for _, order in orders} == {"Yes, No.", "No, Yes."}


def test_phrasings_ask_for_the_same_in_other_words(tmp_path):
    one, three = (
        build_aita(AitaConfig(**SIZES, phrasings=count), tmp_path).splits["test"] for count in (1, 3)
    )
    assert len({item.prompt_without_cue for item in three}) == 3 * len({i.prompt_without_cue for i in one})
    assert list(three)[::3] == list(one)
    assert len({item.id for item in three}) == len(three) == 3 * len(one)
    for first, other in zip(three[::3], three[1::3], strict=True):
        changed = ("id", "prompt_with_cue", "prompt_without_cue")
        assert dataclasses.replace(other, **{name: getattr(first, name) for name in changed}) == first
    assert len(list((tmp_path / "aita_posts").iterdir())) == 1  # one data set serves both


def test_one_cue_a_post_by_default(tmp_path):
    config = AitaConfig(data="sample", validation_items=4, test_items=6)
    task = build_aita(config, tmp_path)
    items = [item for items in task.splits.values() for item in items]
    assert len(items) == len({item.group for item in items}) == 20
    assert len({item.cue_kind for item in items}) > 1


def test_more_items_than_there_are(tmp_path):
    with pytest.raises(InputError, match="lower a size"):
        build_aita(AitaConfig(data="sample"), tmp_path)
    with pytest.raises(InputError, match="no post passes its filters"):
        build_aita(AitaConfig(data="sample", max_characters=3), tmp_path)
    assert not list(tmp_path.rglob("*.array_record*"))


def test_the_sample_is_enough_for_the_tiny_config(tmp_path):
    section = aita_experiment.get_config("tiny").task.to_dict()
    task = build_aita(section_settings(section), tmp_path)
    sizes = {split: len(items) for split, items in task.splits.items()}
    assert sizes == {split: section[f"{split}_items"] for split in SPLITS}
    with pytest.raises(ValueError, match="aita takes one of qwen3_8b"):
        aita_experiment.get_config("gpt")
