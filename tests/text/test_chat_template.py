"""Chat templates: where the user's text and the reply stand, system prompts, and templates that misbehave."""

import chat_templates
import pytest
from row_files import refusal

from introspection.errors import InputError
from introspection.text.chat_template import ChatOptions, ChatTemplate, chat_frame

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
MESSAGES = [{"role": "user", "content": "Why?"}]


def template(text, **options):
    return ChatTemplate(text, TOKENS, ChatOptions(**options), "model/chat_template.jinja")


def prompt(text, user="Why?", **options):
    return "".join(chat_frame(template(text, **options)).prompt_parts(user))


DEFAULT = (
    "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
)
ASK = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
LLAMA3 = (
    "<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\n"
)
LLAMA3_ASK = (
    "<|start_header_id|>user<|end_header_id|>\n\nWhy?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
GEMMA_REST = "<end_of_turn>\n<start_of_turn>model\n"


@pytest.mark.parametrize(
    ("text", "system", "expected"),
    [
        (chat_templates.QWEN25, None, DEFAULT + ASK),
        (chat_templates.QWEN25, "", "<|im_start|>system\n<|im_end|>\n" + ASK),
        (chat_templates.QWEN25, "Be brief.", "<|im_start|>system\nBe brief.<|im_end|>\n" + ASK),
        (chat_templates.QWEN3, None, ASK + "<think>\n\n</think>\n\n"),
        (chat_templates.QWEN3, "", ASK + "<think>\n\n</think>\n\n"),
        (chat_templates.LLAMA3, None, f"<s>{LLAMA3}<|eot_id|>{LLAMA3_ASK}"),
        (chat_templates.LLAMA3, "", f"<s>{LLAMA3}<|eot_id|>{LLAMA3_ASK}"),
        (chat_templates.LLAMA3, "Be brief.", f"<s>{LLAMA3}Be brief.<|eot_id|>{LLAMA3_ASK}"),
        (chat_templates.GEMMA, None, f"<s><start_of_turn>user\nWhy?{GEMMA_REST}"),
        (chat_templates.GEMMA, "", f"<s><start_of_turn>user\nWhy?{GEMMA_REST}"),
        # No place for a system prompt: it opens the user's turn.
        (chat_templates.GEMMA, "Be brief.", f"<s><start_of_turn>user\nBe brief.\n\nWhy?{GEMMA_REST}"),
        (chat_templates.MISTRAL, "Be brief.", "<s>[INST] Be brief.\n\nWhy? [/INST]"),
        (chat_templates.LLAMA2, None, "<s>[INST] Why? [/INST]"),
        (chat_templates.LLAMA2, "", "<s>[INST] Why? [/INST]"),
        (chat_templates.LLAMA2, "Be brief.", "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nWhy? [/INST]"),
    ],
)
def test_a_prompt_with_and_without_system(text, system, expected):
    assert prompt(text, system=system) == expected


def test_the_day_and_thinking_are_options():
    assert "Today Date: 01 Feb 2025" in prompt(chat_templates.LLAMA3, date="2025-02-01")
    assert prompt(chat_templates.QWEN3, enable_thinking=True) == ASK
    with pytest.raises(InputError, match=r"chat\.date: 'yesterday' is not a date"):
        ChatOptions(date="yesterday")


@pytest.mark.parametrize(
    ("text", "lead", "tail"),
    [
        (chat_templates.QWEN25, "", "<|im_end|>\n"),
        (chat_templates.QWEN3, "", "<|im_end|>\n"),
        (chat_templates.LLAMA3, "", "<|eot_id|>"),
        (chat_templates.GEMMA, "", "<end_of_turn>\n"),
        (chat_templates.MISTRAL_V3, " ", "</s>"),
        (chat_templates.LLAMA2, " ", " </s>"),
    ],
)
def test_what_stands_around_a_reply(text, lead, tail):
    frame = chat_frame(template(text))
    assert (frame.lead, frame.tail) == (lead, tail)


def test_a_template_that_trims_is_known_to_trim():
    spaced = "  Why?\n "
    assert prompt(chat_templates.GEMMA, spaced) == prompt(chat_templates.GEMMA, "Why?")
    assert spaced in prompt(chat_templates.QWEN25, spaced)
    parts = chat_frame(template(chat_templates.LLAMA2, system="S")).prompt_parts(spaced)
    assert parts[1] == "  Why?"  # trimmed with the system prompt before it: on the right only


def test_generation_blocks_loop_controls_and_tojson_are_known():
    text = (
        "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>{% endgeneration %}"
        "{% else %}{{ m.content }}{{ {'a': '<é>'} | tojson }}{% endif %}{% endfor %}"
    )
    assert prompt(text) == 'Why?{"a": "<é>"}'
    assert chat_frame(template(text)).tail == "</s>"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{{ raise_exception('No chat') }}", "rejects the conversation: No chat"),
        ("{% for %}", "has an error in line 1"),
        ("{{ messages.__class__.__mro__ }}", "accesses something forbidden"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", "accesses something forbidden"),
        ("{{ messages[0].content.__class__ }}", "accesses something forbidden"),
        ("{{ messages | map(attribute='__class__') | list }}", "accesses something forbidden"),
        ("{{ messages.append(1) }}", "accesses something forbidden"),
        ("{% set ns = namespace() %}{% set ns.__init__ = 1 %}", "accesses something forbidden"),
        ("{{ raise_exception.__globals__.os }}", "accesses something forbidden"),
        ("{{ lipsum() }}", "fails: 'lipsum' is undefined"),
        ("{{ messages | random }}", "No filter named 'random'"),
        ("{{ messages[0].content + 1 }}", "fails: "),
        ("{{ unknown.field }}", "fails: 'unknown' is undefined"),
        ("{% for i in range(50000) %}{{ 'x' * 1000 }}{% endfor %}", "writes more than 1000"),
        ("{{ 'x' * 10 ** 9 }}", "gives more than"),
        ("{{ 9 ** (9 ** 9) }}", "gives more than"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "fails: maximum recursion depth"),
        ("{{ bos_token }}", "writes the user's text 0 times"),
        ("{{ messages[0].content * 2 }}", "writes the user's text 2 times"),
        ("{{ messages[0].content }}", "writes the reply 0 times"),
    ],
)
def test_a_bad_template_is_one_line_that_names_the_file(text, fault):
    message = refusal(lambda: chat_frame(template(text)), says=[fault])
    assert message.startswith("model/chat_template.jinja: the chat template ")


def test_a_fault_in_the_system_branch_is_no_refusal():
    text = (
        "{% if messages[0].role == 'system' %}{{ messages.__class__.x }}{% endif %}" + chat_templates.QWEN25
    )
    assert chat_frame(template(text)).merged == ""
    with pytest.raises(InputError, match="forbidden"):
        chat_frame(template(text, system="Be brief."))


def test_a_text_that_the_template_changes_is_refused():
    text = chat_templates.SMOLLM2.replace("message['content']", "message['content'] | replace('why', 'WHY')")
    assert "Because" in prompt(text, "Because")
    with pytest.raises(InputError, match="does not write the user's text 'why\\?' unchanged"):
        prompt(text, "why?")


def test_a_default_that_an_empty_system_message_does_not_replace_is_named():
    text = (
        "{% set s = messages[0].content if messages[0].role == 'system' else '' %}"
        "<sys>{{ s or 'Be kind.' }}</sys>"
        "{% for m in messages if m.role != 'system' %}{{ m.content }}</s>{% endfor %}"
    )
    assert prompt(text) == "<sys>Be kind.</sys>Why?</s>"
    with pytest.raises(InputError, match=r"keeps a system text of its own; set chat\.system"):
        prompt(text, system="")


USER, SAID = {"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}


@pytest.mark.parametrize(
    ("text", "earlier", "expected"),
    [
        (
            chat_templates.SMOLLM2,
            [{"role": "system", "content": "Be brief."}, USER, SAID],
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi.<|im_end|>\n"
            "<|im_start|>assistant\nHello.<|im_end|>\n" + ASK,
        ),
        # No place for a system text: it opens the first user's turn, and no other.
        (
            chat_templates.GEMMA,
            [{"role": "system", "content": "Be brief."}, USER, SAID],
            "<s><start_of_turn>user\nBe brief.\n\nHi.<end_of_turn>\n"
            "<start_of_turn>model\nHello.<end_of_turn>\n"
            f"<start_of_turn>user\nWhy?{GEMMA_REST}",
        ),
        (
            chat_templates.GEMMA,
            [{"role": "system", "content": "Be brief."}],
            f"<s><start_of_turn>user\nBe brief.\n\nWhy?{GEMMA_REST}",
        ),
    ],
)
def test_earlier_turns_and_their_system_text(text, earlier, expected):
    frame = chat_frame(template(text, system="never used where a conversation has its own"), earlier)
    assert "".join(frame.prompt_parts("Why?")) == expected


def test_the_system_option_stands_before_a_conversation_without_its_own():
    frame = chat_frame(template(chat_templates.SMOLLM2, system="Be brief."), [USER, SAID])
    assert "".join(frame.prompt_parts("Why?")).startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi."
    )
