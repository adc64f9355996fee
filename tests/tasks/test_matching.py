"""The strict matcher of freely said answers."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from introspection.tasks.facts.questions import Question
from introspection.tasks.facts.table import Fact
from introspection.tasks.facts.world_facts import WorldFactsConfig, world_facts_task
from introspection.tasks.folding import Folding, fold
from introspection.tasks.items import NONE
from introspection.tasks.matching import find_match, match_candidate

CITIES = ("Paris", "Lyon", "New York", "York", "São Paulo")
NAMED = {
    CITIES: [
        ("The capital of France is Paris.", "Paris"),
        ("paris", "Paris"),
        ("It is PARIS, of course: Paris!", "Paris"),
        ("Paris, not Lyon.", NONE),  # two are named: not guessed at
        ("Paris,Lyon", NONE),
        # A name that is only rejected is no answer.
        ("It is not Paris.", NONE),
        ("It isn’t **Paris**", NONE),
        ("Paris is wrong.", NONE),
        ("I do not know. Paris?", "Paris"),
        ("Paris is not in Norway.", "Paris"),
        ("New-York", "New York"),
        ("Paris–based", NONE),
        ("I don't know.", NONE),
        ("", NONE),
        ("Parisians say so.", NONE),  # whole words only
        ("The Paris-based paper", NONE),  # a part of a longer word
        ("**Paris**", "Paris"),
        ("_Paris_", "Paris"),
        ("in_Paris", NONE),
        ('"Paris"', "Paris"),
        ("…Paris", "Paris"),
        ("-Paris", "Paris"),
        ("New York", "New York"),  # the longest that fits in its place
        ("New\n  York", "New York"),
        ("York", "York"),
        ("New York and York", NONE),
        ("sao paulo", "São Paulo"),
        ("Sa\u0303o Paulo.", "São Paulo"),
        ("Ｐａｒｉｓ", "Paris"),
        ("Pa\u00adris\u200b", "Paris"),
        ("答えはParisです", "Paris"),
        ("답은Paris입니다", "Paris"),
        (r"Paris or Lyon? \boxed{\text{Lyon}}", "Lyon"),
        (r"\boxed{Paris}, \boxed{Lyon}", NONE),
    ],
    # Case does not count, unless a task says so.
    ("Yes", "No"): [
        ("no", "No"),
        ("NO.", "No"),
        ("yes", "Yes"),
        ("no; yes is wrong", NONE),
        ("It denies, I know", NONE),
        ("№ 5", NONE),
    ],
    ("True", "False"): [("TRUE", "True"), ("not true", NONE), ("That is not at all false", "False")],
    ("In", "Out"): [("in", "In"), ("OUT!", "Out")],
    ("Guinea", "Guinea-Bissau"): [
        ("Guinea Bissau", "Guinea-Bissau"),
        ("Guinea–Bissau", "Guinea-Bissau"),
        ("Guinea", "Guinea"),
    ],
    ("re-sign", "re sign"): [("re-sign", "re-sign"), ("re sign", "re sign")],
    # Numbers are whole.
    ("1", "2", "+1"): [
        ("1", "1"),
        ("It is 1.", "1"),
        ("10", NONE),
        ("1.5", NONE),
        ("2.1", NONE),
        ("1,500", NONE),
        ("1/3", NONE),
        ("1–3", NONE),
        ("10²", NONE),
        ("+1", "+1"),
        ("Group 1, period 2", NONE),
        ("１", "1"),
        ("٢", "2"),  # Arabic-Indic
        ("答案是2。", "2"),
        (r"\boxed{2}", "2"),
        (r"\boxed{\frac{1}{3}}", NONE),
    ],
    ("5", "5000"): [("5 000", NONE), ("5\u202f000", NONE), ("5 oranges", "5")],
    ("5 000", "000"): [("5 000", "5 000")],
    ("-1", "1"): [("-1", "-1"), ("−1", "-1"), ("1", "1"), ("x-1", NONE), ("10-1", NONE)],
    ("$5", "50%"): [("$5.", "$5"), ("$5.50", NONE), ("US$5", NONE), ("about 50%.", "50%"), ("150%", NONE)],
    ("二", "三"): [("二です", "二"), ("二十", NONE)],
    # Signs are part of a name.
    ("C", "C++", "C#"): [
        ("C++", "C++"),
        ("c#.", "C#"),
        ("C.", "C"),
        ("Objective-C", NONE),
        ("C++ or C#", NONE),
    ],
    ("C", "Java"): [("C++", NONE), ("C#", NONE), ("JavaScript", NONE)],
    (".NET", "Java"): [("I like .NET.", ".NET"), ("ASP.NET", NONE), ("net", NONE)],
    ("NET", "Java"): [(".NET", NONE)],
    ("A", "A+", "A-"): [("A-", "A-"), ("A+.", "A+"), ("A", "A")],
    ("O+", "O-"): [("O−", "O-"), ("O", NONE)],
    ("👍", "👎"): [("👍️", "👍")],
    # Two words that a folding makes one.
    ("パリ", "バリ"): [("バリ", "バリ"), ("ﾊﾞﾘです", "バリ"), ("ハ\u3099リ。", "バリ"), ("パリとバリ", NONE)],
    ("パリ", "東京"): [("バリ", NONE), ("パリス", NONE), ("旅行先はパリが良い", "パリ")],
    ("año", "ano"): [("AÑO", "año"), ("an\u0303o", "año"), ("ano", "ano")],
    ("Maße", "Masse"): [("MASSE", "Masse"), ("maße", "Maße")],
    ("Straße", "Bär"): [("STRASSE", "Straße"), ("bar", "Bär")],
    ("İstanbul", "Diyarbakır"): [
        ("istanbul", "İstanbul"),
        ("ISTANBUL", "İstanbul"),
        ("DİYARBAKIR", "Diyarbakır"),
    ],
    ("isi", "ısı"): [("isi", "isi"), ("ısı", "ısı")],
    ("Мой", "Артём"): [("мои", NONE), ("АРТЕМ", "Артём")],
    # Scripts without spaces, and Korean particles.
    ("日本", "中国"): [("答案是日本。", "日本"), ("日本と中国", NONE)],
    ("東京", "京都"): [("東京都", "東京"), ("京都です", "京都")],
    ("是", "不是"): [("不是", "不是"), ("是的", "是")],
    ("是", "否"): [("不是", NONE), ("是的", "是")],
    ("东京", "北京"): [("不是东京", NONE), ("东京ではない", NONE), ("是东京", "东京")],
    ("서울", "부산"): [("서울이 아닙니다", NONE), ("서울입니다", "서울")],
    ("はい", "いいえ"): [("はい、そうです", "はい"), ("答えはいいえです", "いいえ")],
    ("인도", "한국"): [
        ("정답은 인도예요.", "인도"),
        ("한국입니다", "한국"),
        ("인도네시아", NONE),
        ("대한국", NONE),
    ],
    ("กรุงเทพ", "เชียงใหม่"): [("เมืองหลวงคือกรุงเทพครับ", "กรุงเทพ")],
    ("ขาว", "ดำ"): [("ข่าว", NONE), ("สีด\u0e4d\u0e32", "ดำ")],
    ("ວຽງຈັນ", "ປາກເຊ"): [("ແມ່ນວຽງຈັນ", "ວຽງຈັນ")],
    ("ភ្នំពេញ", "សៀមរាប"): [("គឺភ្នំពេញ។", "ភ្នំពេញ")],
    ("ရန်ကုန်", "မန္တလေး"): [("မြို့တော်သည်ရန်ကုန်ဖြစ်သည်", "ရန်ကုန်")],
    ("दिल", "दिल्ली"): [("यह दिल्ली है", "दिल्ली"), ("दिल", "दिल")],
    ("Niger", "Nigeria"): [("Nigeria", "Nigeria"), ("Niger", "Niger")],
    ("Niger", "Chad"): [("Niger's neighbour", NONE)],  # a possessive is another word
    ("Paris", "paris"): [("Paris", NONE)],  # nothing tells them apart
}


@pytest.mark.parametrize(
    ("candidates", "text", "named"),
    [(candidates, *case) for candidates, cases in NAMED.items() for case in cases],
)
def test_what_is_named_and_where(candidates, text, named):
    for order in (candidates, candidates[::-1]):
        found = find_match(text, order)
        assert found.candidate == named
        read = fold(text[found.start : found.end])
        assert named == NONE or read.replace("-", " ") == fold(named).replace("-", " ")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("The symbol of lithium in the periodic table is Li.", "Li"),
        ("As of 2024, it is Li", NONE),  # two symbols
        ("It is li.", NONE),
        ("In", "In"),
        ("It is in.", NONE),
        ("Lithium, as he said.", NONE),
    ],
)
def test_the_case_of_a_symbol_counts(text, named):
    assert match_candidate(text, ("Li", "In", "As", "He"), case_counts=True) == named


def test_the_facts_task_says_which_answers_are_symbols():
    relations = ("element_symbol", "country_code", "country_capital")
    questions = [
        Question(Fact(relation, name, "No"), ("In", "Be")) for relation in relations for name in "abc"
    ]
    task = world_facts_task(WorldFactsConfig(train_facts=4, validation_facts=2, test_facts=3), questions)
    said = {(item.stratum, item.case_counts) for items in task.splits.values() for item in items}
    assert said == {("element_symbol", True), ("country_code", True), ("country_capital", False)}


WORDS = st.lists(st.text("abcXYZ äßıパバ日が한é-", min_size=1, max_size=8), min_size=1, max_size=5)


@given(WORDS, st.randoms(), st.sampled_from(["NFC", "NFD"]))
def test_a_candidate_by_itself_names_itself(candidates, random, form):
    # Candidates that no folding tells apart are refused by tasks.
    distinct = {fold(c, Folding.LOWER): c for c in candidates if c.strip("- ") == c != ""}
    if distinct:
        chosen = random.choice(sorted(distinct.values()))
        said = unicodedata.normalize(form, chosen)
        assert match_candidate(said, tuple(distinct.values())) == chosen


@given(st.text(max_size=40), WORDS)
def test_any_text_has_a_stretch_or_none(text, candidates):
    found = find_match(text, candidates)
    assert 0 <= found.start <= found.end <= len(text)
    assert (found.start == found.end) == (found.candidate == NONE)
