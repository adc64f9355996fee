"""The option letter that a reply calls its answer.

The rules are those of lm-evaluation-harness 0.4.13 (`lm_eval/tasks`), except that a reply that names two
letters names none, where theirs take the first or the last:

- a line that is the letter, in any case and without punctuation: `mmlu/generative/_default_template_yaml`;
- "answer is (B)": `mmlu_pro/_default_template_yaml`; in other languages `mmlu_prox/*/_*_template_yaml`;
- "The answer is B.", "The final answer: B.": `mmlu/flan_cot_zeroshot`, `gpqa/cot_zeroshot`;
- "the best answer is: B", "answer: B", "\\boxed{B}": `global_piqa/*_generation/_template`.

Beyond them: "B. Mercury" as the start of a reply, "I would choose option C", "it is (C)" and "B is correct".
Any "(B)" or ": B" is not read (theirs are, by `multi_choice_regex` in `filters/extraction.py`), since a reply
also discusses options that it rejects. A letter counts only if it ends there: not in "A train" or "C major".
"""

import functools
import re
import string
from collections.abc import Mapping, Sequence

from introspection.tasks.folding import place_of, unify
from introspection.tasks.items import Match

# Parts of the rules, as verbose patterns; long runs give nothing back ("*+"), so that no rule takes long.
# Around a letter: Markdown, quotes, brackets, LaTeX.
_OPEN = r"""[ \t*_"'`“„«「【(\[{<$\\]*+"""
_CLOSE = r"""(?: [*"`”»」】)\]}$] | ['_](?!\w) | \\[)\]] )"""
# A capital ends with a bracket, a clause or a line, or before a dash or a reason; in a phrase, also before
# another script.
_END = rf"""(?= {_CLOSE} | \s*\\?[)\]}}$] | \s*$ | \s*\n | [.:,;!|<。、](?!\w) | \s*(?:です|입니다)
    | \s+[-–—]\s | \s+(?:because|since|as|due|which)\b )"""
_SCRIPT = r"(?= \s*[\u0590-\u1dff\u3001-\uffdc] )"
# A small letter needs a bracket or the line's end; "a" a bracket: replies are cut, also after an article.
_SMALL_END = r"""(?= [*_"'`”]* (?: \s*[)\]}] | (?<![ai]) [.!]? [*_"'`”]* \s* (?:$|\n) ) )"""
_AND = rf"""(?: {_CLOSE}*\s* (?:,\s*(?:and|or)\b | [,/&+] | \b(?:and|or)\b) {_OPEN} )"""
_OPTION = rf"""{_OPEN} (?: (?i: (?:(?:the|la|el|die)\s+)? (?:correct\s+)? (?:answer\s+choice|option|choice
    |answer|letter|opción|opção|opzione|letra|lettre|lettera)\s+ | (?:the|la|el|die)\s+ | 选项\s* | 選項\s* )
    {_OPEN} )?"""
# An "option:" alone introduces a list of them.
_ANSWER = rf"""(?i: (?<!wrong\ )(?<!incorrect\ )(?<!false\ )(?<!other\ )(?<!one\ ) (?: \b(?: answer|ans
    |response|solution|correct(?=\s*:)|(?:correct|right|best|final|my)\s+(?:option|choice)|(?:option|choice)(?=\s+is\b)
    |antwort|antwoord|respuesta|réponse|resposta|risposta|odpověď|odgovor|jibu|jawabannya|câu\ trả\ lời
    |ответ|відповідь|الإجابة|उत्तर|উত্তর|정답|답 ) | 答案 | 答え | 正解 | {unify("คำตอบ")} ))"""
# "The answer to this question is", "the answer, then, is", "la respuesta correcta es".
_OF = r"""(?i: \s+(?:to|for|of|among)\s[^.:;\n]{1,80}? | ,\s[^,.\n]{1,20},
    | \s+(?:correct[ae]|correta|corretta|finale?|option|choice|here) )?"""
_IS = r"""(?: [:=\-–—>→\n] | 是 | 为 | 為 | は | [은는] | คือ | هي | है | आहे | হল
    | (?i: [éè]\b | \b(?:is|was|ist|es|est|adalah|ni|je|là)\b | \b(?:would|should|must|will|has\ to)\ be\b )
    (?i: \s+(?:clearly|definitely|indeed|therefore|thus|(?:most\ )?likely|probably)\b )? )"""
_DECORATION = r"""[ \t*_"'`#)\]]*+"""
_CHOOSE = r"""(?: (?i: (?<!not\ )(?<!n't\ )(?<!never\ ) \b(?: choose|select|pick|go\ with|opt\ for
    |I(?:'d|\ would)\ say|(?:it|that)(?:'s|\ is|\ (?:would|must|should)\ be)|tontu\ bi\ mooy|ìdáhùn\ náà\ ni
    |impendulo\ ithi|a\ válasz|సమాధానం|उत्तर|جواب )\s+ ) | (?<!不)[选選][择擇]?\s* )"""
_BEFORE = r"""(?: ^ | [\n.:;,!?] | (?i: \b(?:option|choice|answer|letter|that|so|thus|hence|therefore|think
    |believe|only|and|but)\s ) )"""
_CORRECT = rf"""{_CLOSE}* (?: \s*(?: 是正[确確] | 是[对對] | が正[解し] | [가이은는]\s정답 )
    | \s+(?:is|would\ be|must\ be)\s+ (?:(?:clearly|definitely|indeed|therefore|thus)\s+)?
    (?:the\s+(?:(?:most|only|single|one)\s+)?)? (?:correct|right|best|answer|accurate|appropriate)\b(?!-) )"""


def letters_of(candidates: Sequence[str]) -> dict[str, str]:
    """The candidate of each letter if they are the first of the alphabet, as "C", "c" or "(C)"; else nothing.

    Elements' symbols are not: H, C, O, N skip some.
    """
    letters = {candidate.strip("()[].:").upper(): candidate for candidate in candidates}
    first = list(string.ascii_uppercase[: len(candidates)])
    return letters if len(candidates) > 1 and sorted(letters) == first else {}


def named_letters(text: str, letters: Mapping[str, str]) -> list[Match]:
    """Every place where a reply calls an option its answer, in order; `letters` gives their candidates."""
    plain = unify(text)
    rules, label = _rules(max(letters))
    if len({found["letter"] for found in label.finditer(plain)}) > 1:
        rules = rules[1:]  # a list of the options: the first is not the answer
    spans = {found.span("letter") for rule in rules for found in rule.finditer(plain)}
    named = []
    for start, end in sorted(spans):
        for name in re.finditer(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", plain[start:end]):
            first, last = (place_of(text, start + at, unify) for at in name.span())
            named.append(Match(letters[name[0].upper()], first, last))
    return named


@functools.cache
def _rules(last: str) -> tuple[list[re.Pattern[str]], re.Pattern[str]]:
    """The rules for the letters A to `last`, that of a reply's start first; and what a label looks like."""
    one, small = f"[A-{last}]", f"[a-{last.lower()}]"
    letters = f"{one} (?:{_AND}{one})*"
    named = f"{_OPTION} (?P<letter> {letters}(?:{_END}|{_SCRIPT}) | {small}{_SMALL_END} )"
    rules = (
        rf"\A\s*+ {_OPTION} (?!I,) (?P<letter> {letters}{_END} | {small}(?=\)|[.:](?:\s|$)) )",
        rf"^ {_OPTION} (?P<letter> {letters} | {small} ) (?:{_CLOSE}|[.:!])* [ \t]* $",
        rf"{_ANSWER} {_OF} {_DECORATION} (?:{_IS}{_DECORATION})+ {named}",
        rf"\\boxed\s*{{ {named}",
        rf"{_CHOOSE} {named}",
        rf"{_BEFORE} {_OPEN} (?P<letter> {one} ) (?={_CORRECT})",
    )
    label = rf"^{_OPEN} (?P<letter> {one} ) (?:{_CLOSE}|[.:])"
    compiled = [re.compile(rule, re.VERBOSE | re.MULTILINE) for rule in (*rules, label)]
    return compiled[:-1], compiled[-1]
