"""e_M: a model's explanation of how its answer would change, decoded or scored."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from introspection.models.model import Model
from introspection.probes.decoding import decode, end_tokens
from introspection.probes.scoring import ScoreRequest, score, single_best
from introspection.runtime.session import Session
from introspection.tasks.explanations import ExplanationGrammar
from introspection.tasks.items import (
    INVALID,
    NONE,
    Conversation,
    Explanation,
    Item,
    Prompt,
    Turn,
    add_to_prompt,
    turns,
)
from introspection.text.tokenizer import ChatTokenizer


def explanation_prompt(tokenizer: ChatTokenizer, item: Item, grammar: ExplanationGrammar) -> list[int]:
    """One user turn: the prompt with its cue, and the question; it shows no model's answer."""
    return tokenizer.encode_prompt(asked_prompt(item, grammar))


def asked_prompt(item: Item, grammar: ExplanationGrammar) -> Prompt:
    return add_to_prompt(item.prompt_with_cue, item.explanation_question or grammar.question)


def with_examples(
    item: Item, examples: Sequence[tuple[Item, Explanation]], grammar: ExplanationGrammar
) -> Item:
    """The item, asked after worked examples: each a user's turn as `explanation_prompt` has it, and the
    explanation as the reply. Only its explanation is to be asked for."""
    asked, worked = turns(item.prompt_with_cue), []
    for example, explanation in examples:
        worked += [turn for turn in turns(asked_prompt(example, grammar)) if turn.role != "system"]
        worked.append(Turn("assistant", grammar.render(explanation)))
    system = [turn for turn in asked[:1] if turn.role == "system"]
    return dataclasses.replace(item, prompt_with_cue=Conversation((*system, *worked, *asked[len(system) :])))


def showing(items: Sequence[Item], answers: Sequence[str | None], grammar: ExplanationGrammar) -> list[Item]:
    """The items with a model's answers without the cue shown after the explanation question.

    What such an explainer needs is one black-box query an item, and no insight: an upper bound.
    """
    return [
        dataclasses.replace(
            item,
            explanation_question=f"{item.explanation_question or grammar.question} {grammar.name(answer)}",
        )
        for item, answer in zip(items, answers, strict=True)
    ]


def explained(items: Sequence[Item]) -> list[str]:
    """What errors call the explanations of items."""
    return [f"item {item.id}'s explanation" for item in items]


def decode_explanations(
    model: Model,
    items: Sequence[Item],
    grammar: ExplanationGrammar,
    max_tokens: int,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> list[tuple[str, Explanation]]:
    """Greedily decoded texts and their parses; a reply that does not end within `max_tokens` is invalid."""
    prompts = model.tokenizer.encode_prompts([asked_prompt(item, grammar) for item in items])
    ends, results = end_tokens(model.tokenizer), []
    for reply in decode(model, prompts, max_tokens, session, progress, explained(items)):
        text = model.tokenizer.decode(reply.tokens)
        ended = bool(reply.tokens) and reply.tokens[-1] in ends
        results.append((text, grammar.parse(model.tokenizer.answer(text)) if ended else INVALID))
    return results


def explanation_set(item: Item, grammar: ExplanationGrammar) -> tuple[Explanation, ...]:
    """All that an explanation of the item can be, the decision for no candidate included."""
    return grammar.all_explanations((*item.candidates, NONE))


def explanation_logprobs(
    model: Model,
    items: Sequence[Item],
    grammar: ExplanationGrammar,
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Float[np.ndarray, " explanations"]]:
    """Each item's log-probabilities (nats) of its `explanation_set`, in its order, their ends included."""
    choices = [explanation_set(item, grammar) for item in items]
    return _score(model, items, grammar, choices, session, progress)


def score_explanations(
    model: Model,
    items: Sequence[Item],
    grammar: ExplanationGrammar,
    labels: Sequence[Explanation],
    session: Session,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[Explanation], list[float]]:
    """The most probable explanation of the grammar's finite set, and the labels' log-probabilities.

    Cheaper than decoding and invalid only where several are equally probable, so it serves live curves, not
    the final table. A label outside the set (its answer is `NONE`) is scored but never chosen, since choosing
    it would leak the label.
    """
    sets = [grammar.all_explanations(item.candidates) for item in items]
    choices = [tuple(dict.fromkeys((*options, label))) for options, label in zip(sets, labels, strict=True)]
    scores = _score(model, items, grammar, choices, session, progress)
    best = [single_best(row[: len(options)]) for options, row in zip(sets, scores, strict=True)]
    said = [INVALID if at is None else options[at] for options, at in zip(sets, best, strict=True)]
    label_logprobs = [
        float(row[options.index(label)]) for options, label, row in zip(choices, labels, scores, strict=True)
    ]
    return said, label_logprobs


def _score(
    model: Model,
    items: Sequence[Item],
    grammar: ExplanationGrammar,
    choices: Sequence[Sequence[Explanation]],
    session: Session,
    progress: Callable[[int], None],
) -> list[Float[np.ndarray, " explanations"]]:
    encode = functools.cache(lambda text: tuple(model.tokenizer.encode_reply(text)))
    requests = [
        ScoreRequest(
            explanation_prompt(model.tokenizer, item, grammar),
            tuple(encode(grammar.render(choice)) for choice in options),
        )
        for item, options in zip(items, choices, strict=True)
    ]
    return score(model, requests, session, progress, explained(items))
