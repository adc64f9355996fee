"""Templates and tokenizer files that take all time or memory end in one line, in a child that ends too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import chat_templates
import pytest
from row_files import refusal
from small_tokenizers import byte_level, model_folder

from introspection.errors import InputError
from introspection.runtime import child
from introspection.runtime.child import Limits
from introspection.text import template_sandbox, tokenizer_trial
from introspection.text.chat_template import LIMITS, ChatOptions, ChatTemplate, chat_frame
from introspection.text.gguf_tokenizer import read_gguf_tokenizer
from introspection.text.hf_tokenizer import read_hf_tokenizer
from introspection.text.literal_text import literal_tokenizer
from introspection.text.tokenizer import load_tokenizer

MEMORY, TIME = "needs more", "takes more than"


def frame(text):
    return chat_frame(ChatTemplate(text, {}, ChatOptions(), "model/chat_template.jinja"))


def doubled(start, operator, times=40):
    grow = f"{{% set ns.x = ns.x {operator} ns.x %}}"
    return f"{{% set ns = namespace(x={start}) %}}{{% for i in range({times}) %}}{grow}{{% endfor %}}"


@pytest.mark.parametrize(
    ("start", "fault"),
    [
        ("{% set x = 'a'.ljust(4000000000) %}", MEMORY),
        ("{% set x = 'a'.zfill(4000000000) %}", MEMORY),
        ("{% set x = 'a' | center(4000000000) %}", MEMORY),
        ("{% set x = ('\t' * 1000).expandtabs(100000000) %}", MEMORY),
        ("{% set x = '{:4000000000}'.format(1) %}", MEMORY),
        ("{% set x = '%4000000000d' % 1 %}", MEMORY),
        ("{{ ('a\n' * 100000) | indent(100000) | length }}", MEMORY),
        ("{% set x = 'a' * 100000 %}{{ x | replace('a', x) | length }}", MEMORY),
        ("{{ range(99999) | join('x' * 1000000) | length }}", MEMORY),
        ("{{ messages | tojson(indent=999999999) }}", MEMORY),
        (doubled("'a'", "~"), MEMORY),
        (doubled("['a']", "+"), MEMORY),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", TIME),
        ("{% macro m(n) %}{% if n %}{{ m(n - 1) ~ m(n - 1) }}{% endif %}{% endmacro %}{{ m(40) }}", TIME),
        ("{{ ('x' * 900000) | wordwrap(1) | length }}", TIME),
        (doubled("3", "*"), "gives more than"),
    ],
)
def test_a_template_without_bounds_ends_in_one_line_and_the_next_one_works(start, fault):
    begun = time.monotonic()
    message = refusal(frame, start + chat_templates.QWEN25, says=[fault])
    assert message.startswith("model/chat_template.jinja: the chat template ")
    assert time.monotonic() - begun < 10 + 5 * os.getloadavg()[0]  # a busy machine takes longer
    assert frame(chat_templates.QWEN25).tail == "<|im_end|>\n"


def test_a_template_that_is_slow_each_time_ends_after_a_few():
    slow = "{% for a in range(4000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}"
    renderer = child.Child(template_sandbox.__name__, LIMITS)
    with pytest.raises(child.ChildError, match=TIME):
        list(renderer.ask(template=slow, date="2024-07-26", conversations=[[]] * 60))


def test_a_long_template_is_refused():
    refusal(frame, "x" * 1_000_001, says=["has 1,000,001 characters, more than 1,000,000"])


def test_a_message_of_the_template_is_cut():
    refused = refusal(frame, "{{ raise_exception('x' * 900000) }}", says=["rejects the conversation: xxx"])
    assert len(refused) < 500


def test_a_prompt_is_rendered_once(monkeypatch):
    asked, ask = [], child.Child.ask
    monkeypatch.setattr(child.Child, "ask", lambda self, **more: asked.append(more) or ask(self, **more))
    known = frame(chat_templates.QWEN25)
    count = len(asked)
    assert known.prompt_parts("Rendered once?") == known.prompt_parts("Rendered once?")
    assert len(asked) == count + 1


def definition(**fields):
    return json.loads(byte_level().to_str()) | fields


def replaced(pattern, content):
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def same_ids():
    stored = definition()
    stored["model"]["vocab"] = dict.fromkeys(stored["model"]["vocab"], 0)
    return stored


HOSTILE = {
    "doubles": lambda: definition(
        normalizer={"type": "Sequence", "normalizers": [replaced(".", "aa") for _ in range(40)]}
    ),
    "grows": lambda: definition(normalizer=replaced("q", "a" * 20_000)),
    # No sample text has these letters.
    "grows later": lambda: definition(
        normalizer={"type": "Sequence", "normalizers": [replaced("Ѫ", "Ѧ" * 99), replaced("Ѧ", "a" * 99)]}
    ),
    "backtracks": lambda: definition(pre_tokenizer=split("((a|[a-z ])+)+Z|.")),
    "one id": same_ids,
}


def folder_of_a_model(folder):
    return read_hf_tokenizer(folder)


def workdir_of_a_run(folder):
    return load_tokenizer(folder / "tokenizer.json")


@pytest.mark.parametrize("read", [folder_of_a_model, workdir_of_a_run])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_tokenizer_file_that_breaks_the_library_is_one_line(kind, read, tmp_path, capfd):
    folder = model_folder(tmp_path, byte_level(), chat_templates.QWEN25, eos_token="<|im_end|>")
    read_hf_tokenizer(folder).save(folder / "tokenizer.json")
    (folder / "tokenizer.json").write_text(json.dumps(HOSTILE[kind]()))
    refusal(read, folder, says=[f"{folder / 'tokenizer.json'}: not a readable tokenizer ("])
    assert capfd.readouterr().err == ""  # where the library writes its panics


def test_a_gguf_vocabulary_that_takes_too_long_is_one_line(monkeypatch):
    """Every cut of every token is looked for among the tokens: 2,000 of 1,000 characters take a second."""
    monkeypatch.setattr(tokenizer_trial, "LIMITS", Limits(0.2, 1 << 30))
    tokens = ["<unk>", *(f"{i:04}" * 250 for i in range(2_000))]
    fields = {"model": "llama", "tokens": tokens, "scores": [0.0] * len(tokens), "eos_token_id": 1}
    fields = {f"tokenizer.ggml.{name}": value for name, value in fields.items()}
    refusal(read_gguf_tokenizer, fields, says=["not a readable tokenizer (it takes more than 0.2 s)"])


def test_a_text_that_the_library_fails_on_later_is_one_line():
    import tokenizers

    stored = definition(pre_tokenizer=split("((Ж|[А-Я ])+)+9|."))
    tokenizer = literal_tokenizer(tokenizers.Tokenizer.from_str(json.dumps(stored)), "", "", "model")
    assert tokenizer.encode("", "Why?", "")
    with pytest.raises(InputError, match="model: the model's tokenizer fails on the text 'ЖЖ"):
        tokenizer.encode("", "Ж" * 300, "")


def is_running(pid):
    ps = ["ps", "-o", "state=", "-p", str(pid)]
    return subprocess.run(ps, capture_output=True, text=True, check=False).stdout.strip() not in ("", "Z")


def test_the_child_ends_with_its_parent():
    program = (
        "import time; from introspection.runtime.child import Child, Limits;"
        "child = Child('introspection.text.template_sandbox', Limits(1.0, 256 << 20));"
        "list(child.ask(template='', date='2024-07-26'));"
        "print(child.process.pid, flush=True); time.sleep(600)"
    )
    root = Path(child.__file__).parents[2]
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    os.kill(pid, signal.SIGINT)  # Ctrl-C is for the parent
    assert is_running(pid)
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 30
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_child_imports_nothing_slow():
    modules = (
        "runtime.child_program",
        "text.template_sandbox",
        "text.tokenizer_trial",
        "tasks.parquet_batches",
    )
    program = (
        f"import sys, {', '.join(f'introspection.{name}' for name in modules)}; print('jax' in sys.modules)"
    )
    command, root = [sys.executable, "-c", program], Path(child.__file__).parents[2]
    assert subprocess.run(command, capture_output=True, check=True, cwd=root).stdout.split() == [b"False"]
