"""Letters that lm-evaluation-harness's rules read are read here, in the languages of its tasks."""

import json

import pytest
from peers_environment import run_peer

from introspection.tasks.items import NONE
from introspection.tasks.matching import match_candidate

pytestmark = pytest.mark.parity


def test_published_rules_and_these_read_the_same_letters(tmp_path):
    said = json.loads((run_peer("letters.py", tmp_path) / "letters.json").read_text(encoding="utf-8"))
    assert len(said) > 300  # of 30 patterns, and of 57 subjects
    read = [(match_candidate(reply, tuple("ABCDEFGHIJ")), letter, reply) for _, reply, letter in said]
    (other,) = [one for one in read if one[0] != one[1]]
    assert other[0] == NONE  # it names two
    assert "(D) is the only correct answer. The answer is (C)." in other[2]
