"""What a prompt shows of the answer that is to be explained."""

from tiny import task_model, tiny_task

from introspection.probes.explanation import explanation_prompt, showing
from introspection.tasks.items import NONE


def test_the_answer_follows_the_question_and_nothing_else_changes():
    task, tokenizer = tiny_task(), task_model().tokenizer
    items = task.splits["test"][:2]
    answers = [items[0].candidates[1], NONE]
    for item, shown, answer in zip(items, showing(items, answers, task.grammar), answers, strict=True):
        plain = explanation_prompt(tokenizer, item, task.grammar)
        named = tokenizer.encode_reply(task.grammar.neither if answer == NONE else answer)[:-1]
        # Both end with the opening of the reply.
        assert explanation_prompt(tokenizer, shown, task.grammar) == [*plain[:-1], *named, plain[-1]]
        assert shown.prompt_with_cue == item.prompt_with_cue
