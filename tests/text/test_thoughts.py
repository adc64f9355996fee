"""Thoughts that prompts open and replies write: closed before what is scored, never matched."""

import chat_templates
import pytest
from chat_tokenizers import pretrained
from small_tokenizers import byte_level

from introspection.probes.readouts import thought_note
from introspection.text.chat_template import ChatOptions, ChatTemplate, chat_frame
from introspection.text.thoughts import after_thought, open_thought, own_opener

ANALYSIS = "assistant<|channel|>analysis<|message|>"


def opening(marker, user="<u>"):
    """A template whose prompt ends with a marker, and which shows no thoughts."""
    return (
        f"{{% for m in messages %}}{{{{ '{user}' + m.content + '</s>' }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{{{{ '{marker}' }}}}{{% endif %}}"
    )


@pytest.mark.parametrize(
    ("text", "after", "closing", "lead"),
    [
        (chat_templates.R1, "<|Assistant|><think>\n", "\n</think>", "\n\n"),
        (
            chat_templates.QWEN3_THINKING,
            "<|im_end|>\n<|im_start|>assistant\n<think>\n",
            "\n</think>",
            "\n\n",
        ),
        (chat_templates.SEED, "<|im_end|><|im_start|>assistant\n<seed:think>", "</seed:think>", ""),
        (opening("[THINK]"), "</s>[THINK]", "[/THINK]", ""),
        (opening("<thinking>\\n"), "</s><thinking>\n", "\n</thinking>", "\n\n"),
        (opening("<|thought|>"), "</s><|thought|>", "<|/thought|>", ""),
        (opening("<|START_THINKING|>"), "</s><|START_THINKING|>", "<|END_THINKING|>", ""),
        (opening("<|begin_of_thought|>"), "</s><|begin_of_thought|>", "<|end_of_thought|>", ""),
        (opening("◁think▷"), "</s>◁think▷", "◁/think▷", ""),
        (opening("<|thought_start|>"), "</s><|thought_start|>", "<|thought_end|>", ""),
        (opening("<scratchpad>"), "</s><scratchpad>", "</scratchpad>", ""),
        (opening("<|channel>thought\\n"), "</s><|channel>thought\n", "<channel|>", ""),
        (opening("<unused94>thought\\n"), "</s><unused94>thought\n", "<unused95>", ""),
        (
            chat_templates.HARMONY.replace("'<|start|>assistant' ", f"'<|start|>{ANALYSIS}' "),
            f"<|end|><|start|>{ANALYSIS}",
            "<|end|><|start|>assistant<|channel|>final<|message|>",
            "",
        ),
        # Nothing is left open.
        (opening("<|channel>thought\\n<channel|>"), "</s><|channel>thought\n<channel|>", "", ""),
        (opening("<|thought_start|><|thought_end|>"), "</s><|thought_start|><|thought_end|>", "", ""),
        (opening("<think_off>"), "</s><think_off>", "", ""),
        (chat_templates.QWEN3, "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", "", ""),
        (opening("<answer>"), "</s><answer>", "", ""),
        (opening("</think>"), "</s></think>", "", ""),
        (opening("<|no_think|>"), "</s><|no_think|>", "", ""),
        (opening("Think: "), "</s>Think: ", "", ""),
    ],
)
def test_a_thought_that_the_prompt_opens_is_closed_as_the_template_closes_it(text, after, closing, lead):
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    frame = chat_frame(ChatTemplate(text, tokens, ChatOptions(), "model"))
    assert (frame.after, frame.closing, frame.lead) == (after, closing, lead)
    assert (frame.thought is None) == (closing == "")


def test_a_thought_that_a_finished_turn_holds_and_the_prompt_does_not_open_is_no_part_of_a_reply():
    """Qwen3 with thinking: what is scored follows an empty thought, what is generated has its own."""
    special = {"eos_token": "<|im_end|>"}
    tokenizer = pretrained(byte_level(), chat_templates.QWEN3, special, enable_thinking=True)
    prompt = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.encode_prompt("Why?") == ids(tokenizer, f"{prompt}<think>\n\n</think>")
    assert tokenizer.encode_prompt("Why?", through_thought=True) == ids(tokenizer, prompt)
    assert tokenizer.encode_reply("Oslo") == ids(tokenizer, "\n\nOslo<|im_end|>")
    assert tokenizer.thought is not None
    assert tokenizer.answer("<think>\nIn Norway.\n</think>\n\nOslo", through_thought=True) == "Oslo"
    assert tokenizer.answer("<think>\nIn Norway", through_thought=True) == ""


def test_a_closing_marker_of_two_forms_is_the_one_that_the_template_knows():
    found = open_thought("<|thought|>", "{% if '</|thought|>' in m %}")
    assert found is not None
    assert found.closer == "</|thought|>"


def reasoning():
    return pretrained(byte_level(), chat_templates.QWEN3_THINKING, {"eos_token": "<|im_end|>"})


def ids(tokenizer, text):
    return tokenizer.tokenizer.encode(text, add_special_tokens=False).ids


def test_what_is_scored_follows_the_closed_thought_and_a_generated_reply_the_open_one():
    tokenizer = reasoning()
    prompt = "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n<think>\n"
    assert tokenizer.encode_prompt("Why?") == ids(tokenizer, f"{prompt}\n</think>")
    assert tokenizer.encode_prompt("Why?", through_thought=True) == ids(tokenizer, prompt)
    assert tokenizer.encode_reply("Oslo") == ids(tokenizer, "\n\nOslo<|im_end|>")
    assert tokenizer.decode(tokenizer.encode_reply("Oslo")) == "Oslo"
    assert tokenizer.read_anywhere(["</think>"]) == ["</think>"]
    assert tokenizer.thought is not None
    assert tokenizer.thought.closer == "</think>"


def test_a_gpt_oss_reply_is_its_final_message():
    tokens = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>")
    vocabulary = byte_level()
    vocabulary.add_special_tokens(list(tokens))
    tokenizer = pretrained(vocabulary, chat_templates.HARMONY, {"eos_token": "<|return|>"})
    said = ids(tokenizer, "<|channel|>final<|message|>Oslo<|return|>")
    assert tokenizer.encode_reply("Oslo") == said
    thought = ids(tokenizer, "<|channel|>analysis<|message|>Rome?<|end|><|start|>assistant")
    assert tokenizer.answer(tokenizer.decode([*thought, *said]), through_thought=True) == "Oslo"
    assert tokenizer.answer(tokenizer.decode(thought), through_thought=True) == ""


@pytest.mark.parametrize(("readout", "tokens", "advice"), [
    ("score", 24, "--readout=generate --reply-tokens=N"),
    ("likeliest", 4096, "--readout=generate"),
    ("generate", 24, "within 24 tokens"),
    ("generate", 4096, ""),
])  # fmt: skip
def test_a_note_on_a_thought_says_what_to_set(readout, tokens, advice):
    thought = reasoning().thought
    assert thought is not None
    note = thought_note(thought, readout, tokens)
    assert advice in note if advice else "reply-tokens" not in note
    assert ("closed, empty" in note) == (readout != "generate")


def test_a_switch_by_another_name_turns_thinking_on():
    text = opening("@").replace("'@'", "'<think>' if thinking is defined and thinking else '</think>'")
    for on in (True, False):
        frame = chat_frame(ChatTemplate(text, {}, ChatOptions(enable_thinking=on), "model"))
        assert (frame.thought is not None) == on


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("Rome?\nNo.\n</think>\n\nOslo", "Oslo"),
        ("<think>\nRome?</think>Oslo", "Oslo"),  # opened once more
        ("</think>Oslo", "Oslo"),
        ("Rome? No", ""),
        ("", ""),
    ],
)
def test_a_reply_generated_through_a_thought_is_what_follows_it(said, answer):
    assert reasoning().answer(said, through_thought=True) == answer


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("<think>\nRome?\n</think>\n\nOslo", "Oslo"),
        (" <think></think> Oslo", "Oslo"),
        ("[THINK]Rome?[/THINK]Oslo", "Oslo"),
        ("<think>Rome?", ""),  # a marker of this vocabulary
        ("[Reasoning] It is Oslo", "[Reasoning] It is Oslo"),  # of no vocabulary
        ("Oslo. <think>Rome?</think>", "Oslo. <think>Rome?</think>"),
        ("Rome? No.\n</think>\n\nOslo", "Oslo"),  # closed but never opened
        (
            "<|channel|>analysis<|message|>Rome?<|end|><|start|>assistant<|channel|>final<|message|>Oslo",
            "Oslo",
        ),
        ("<|channel>thought\nRome?<channel|>Oslo", "Oslo"),
        ("<unused94>thought\nRome?<unused95>Oslo", "Oslo"),
        ("Here is my thought process:\nRome?\nHere is my response:\nOslo", "Oslo"),
        ("Oslo", "Oslo"),
    ],
)
def test_a_thought_that_a_reply_opens_itself_is_not_part_of_it(said, answer):
    tokenizer = pretrained(byte_level(), chat_templates.QWEN25, {"eos_token": "<|im_end|>"})
    assert tokenizer.answer(said) == answer
    assert tokenizer.answer(said, through_thought=True) == answer  # its prompt opens none


def test_markers_are_those_of_a_thought():
    assert own_opener("<think>x") == "<think>"
    assert own_opener("x <think>") == own_opener("<b>x</b>") == own_opener("</think>x") == ""
    assert after_thought("x<|end_of_thought|> y", "<|begin_of_thought|>") == "y"
    assert after_thought("x</think>", "[THINK]") is None
