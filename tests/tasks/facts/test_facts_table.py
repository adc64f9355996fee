"""The table of true facts: that it is true and well-formed."""

import collections
import unicodedata
from pathlib import Path

import pytest
from facts_cases import HEADER, SMALL, write_table
from row_files import refusal

from introspection.errors import InputError
from introspection.tasks.facts.table import FACTS_TABLE, Fact, read_facts_table

# Written down by hand, not copied from the table.
TRUE_FACTS = {
    ("country_capital", "Australia"): "Canberra",
    ("country_capital", "Burundi"): "Gitega",
    ("country_capital", "Chad"): "N'Djamena",
    ("country_capital", "Kazakhstan"): "Astana",
    ("country_capital", "São Tomé and Príncipe"): "São Tomé",
    ("country_capital", "the United States"): "Washington, D.C.",
    ("country_continent", "Mexico"): "North America",
    ("country_continent", "Suriname"): "South America",
    ("country_subregion", "Zambia"): "Eastern Africa",
    ("country_subregion", "Fiji"): "Melanesia",
    ("country_currency", "Croatia"): "euro",
    ("country_currency", "Norway"): "Norwegian krone",
    ("country_currency", "El Salvador"): "United States dollar",
    ("country_language", "Brazil"): "Portuguese",
    ("country_language", "Austria"): "German",
    ("country_demonym", "the Netherlands"): "Dutch",
    ("country_code", "Switzerland"): "CH",
    ("country_calling_code", "Japan"): "+81",
    ("element_symbol", "tungsten"): "W",
    ("element_symbol", "nobelium"): "No",
    ("element_number", "gold"): "79",
    ("element_group", "chlorine"): "17",
    ("element_period", "iodine"): "5",
    ("element_block", "helium"): "s",
    ("element_category", "uranium"): "actinide",
}

# No single answer is right, so there must be none.
AMBIGUOUS = [
    ("country_capital", "South Africa"),
    ("country_capital", "Bolivia"),
    ("country_continent", "Turkey"),
    ("country_language", "Switzerland"),
    ("country_language", "Canada"),
    ("country_currency", "Zimbabwe"),
    ("element_group", "lanthanum"),
    ("element_category", "hydrogen"),
]


@pytest.fixture
def small_table(tmp_path: Path) -> Path:
    return write_table(tmp_path / "small.tsv", SMALL)


class TestShippedTable:
    def test_is_large_and_every_relation_has_distractors(self):
        facts = read_facts_table()
        answers = collections.defaultdict(set)
        for fact in facts:
            answers[fact.relation].add(fact.answer)
        assert len(facts) >= 1500
        assert len(answers) >= 8
        assert {relation for relation, found in answers.items() if len(found) < 4} == set()

    def test_is_sorted_unique_and_compact(self):
        facts = read_facts_table()
        assert facts == sorted(facts)
        assert len({fact.id for fact in facts}) == len(facts)
        raw = FACTS_TABLE.read_bytes()
        assert len(raw) < 150_000
        assert b"\r" not in raw
        assert raw.endswith(b"\n")

    def test_text_is_composed_and_no_answer_repeats_its_entity(self):
        # Candidates are compared as strings, so "é" must be spelt one way; and a question that holds its
        # own answer measures copying.
        text = FACTS_TABLE.read_text(encoding="utf-8")
        assert text == unicodedata.normalize("NFC", text)
        assert [fact.id for fact in read_facts_table() if fact.answer == fact.entity] == []

    def test_one_spelling_an_answer(self):
        spellings = collections.defaultdict(set)
        for fact in read_facts_table():
            plain = unicodedata.normalize("NFD", fact.answer).encode("ascii", "ignore").decode().casefold()
            spellings[fact.relation, plain].add(fact.answer)
        assert {key: found for key, found in spellings.items() if len(found) > 1} == {}

    def test_one_spelling_a_country_and_an_element(self):
        known = {"country": set(), "element": set()}
        facts = read_facts_table()
        for fact in facts:
            if fact.relation in ("country_code", "element_symbol"):
                known[fact.relation.split("_")[0]].add(fact.entity)
        assert len(known["element"]) == 118
        strangers = {fact.entity for fact in facts if fact.entity not in known[fact.relation.split("_")[0]]}
        assert strangers == {"Kosovo"}  # ISO has given it no code

    @pytest.mark.parametrize("key", TRUE_FACTS, ids="/".join)
    def test_spot_checks(self, key):
        answers = {(fact.relation, fact.entity): fact.answer for fact in read_facts_table()}
        assert answers[key] == TRUE_FACTS[key]

    def test_ambiguous_facts_are_left_out(self):
        present = {(fact.relation, fact.entity) for fact in read_facts_table()}
        assert present.isdisjoint(AMBIGUOUS)

    def test_names_of_one_thing_are_not_shared(self):
        shared = collections.defaultdict(list)
        for fact in read_facts_table():
            if fact.relation in ("country_capital", "country_code", "element_symbol", "element_number"):
                shared[fact.relation, fact.answer].append(fact.entity)
        assert {key: entities for key, entities in shared.items() if len(entities) > 1} == {}

    def test_readme_counts_are_the_tables(self):
        counts = collections.Counter(fact.relation for fact in read_facts_table())
        readme = (FACTS_TABLE.parent / "README.md").read_text(encoding="utf-8")
        rows = [line.split("|")[1:4] for line in readme.splitlines() if line.startswith("| `")]
        assert {name.strip(" `"): int(count) for name, _, count in rows} == counts
        assert f"{sum(counts.values()):,} facts" in readme


class TestReadFactsTable:
    def test_reads_rows_in_order(self, small_table):
        facts = read_facts_table(small_table)
        assert facts == [Fact(*row) for row in SMALL]
        assert facts[0].id == "country_capital/Norway"

    def test_names_every_bad_row_in_one_message(self, tmp_path):
        table = write_table(
            tmp_path / "bad.tsv",
            [
                ("country_capital", "Norway", "Oslo"),
                ("country_capital", "Sweden"),
                ("country_capital", "", "Paris"),
                ("country_capital", "Italy", " Rome"),
                ("country_capital", "Spain", "New  Madrid"),
                ("country_capital", "Norway", "Bergen"),
                ("country_capital", "Peru", "None"),
                ("country_capital", "Cuba", "Hava\u200bna"),
                ("country_capital", "Chile", "Santiago\r"),
                ("country_capital", "France", "Paris"),
            ],
        )
        path, _, rows = refusal(read_facts_table, table).partition(": ")
        assert path == str(table)
        assert rows.split("; ") == [
            "line 3: has 2 columns instead of 3",
            "line 4: entity is empty",
            "line 5: answer ' Rome' has stray white space",
            "line 6: answer 'New  Madrid' has stray white space",
            "line 7: entity 'Norway' already has an answer for country_capital in line 2",
            "line 8: answer must not be 'none', which is reserved for answers outside the candidates",
            "line 9: answer 'Hava\\u200bna' has an invisible character",
            "line 10: answer 'Santiago\\r' has stray white space",
        ]

    def test_counts_bad_rows_beyond_the_first_twenty(self, tmp_path):
        table = write_table(tmp_path / "bad.tsv", [("country_capital", f"land {i}", "") for i in range(25)])
        message = refusal(read_facts_table, table)
        assert message.count("answer is empty") == 20
        assert message.endswith("line 21: answer is empty; and 5 more bad rows")

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            (b"relation,entity,answer\na,b,c\n", "line 1: the header must be relation entity answer"),
            (b"", "line 1: the header"),
            (HEADER.encode() + b"\n", "the table has no facts"),
            (HEADER.encode() + b"\na\tb\tc\na\tS\xe3o\td\n", "line 3, byte 4: b'\\xe3' is not UTF-8"),
            (HEADER.encode() + b"\na\tb\tc\n\na\td\te\n", "line 3: has 1 columns"),
        ],
    )
    def test_names_file_and_line_of_a_broken_table(self, tmp_path, content, why):
        table = tmp_path / "broken.tsv"
        table.write_bytes(content)
        assert refusal(read_facts_table, table, says=[why]).startswith(f"{table}: ")

    def test_missing_table(self, tmp_path):
        with pytest.raises(InputError, match=r"absent\.tsv: can't be read: No such file"):
            read_facts_table(tmp_path / "absent.tsv")
