"""Jinja's immutable sandbox for untrusted templates, with transformers' settings, filters and variables.

Only a child process (`runtime/child.py`) renders here: its limits bound what no rule can, such as `ljust`,
loops within loops and format widths. So this file imports nothing of the project, and nothing slow.
"""

import datetime
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

OUTPUT_LIMIT = 1_000_000  # characters beyond four times the messages' own
_FAULT_LIMIT = 300  # characters of a template's own message


class _RefusedError(jinja2.TemplateError):
    """A template called raise_exception: it rejects these messages."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` blocks, which mark replies for trainers; here only their content is rendered."""

    tags = {"generation"}  # noqa: RUF012 (jinja declares a set)

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Namespace(jinja2.utils.Namespace):
    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise jinja2.exceptions.SecurityError(f"a namespace can't have the attribute {name!r}")
        super().__setitem__(name, value)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Makes forbidden access an error instead of an empty text, and names a product that is too large."""

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        raise jinja2.exceptions.SecurityError(f"{attribute!r} of a {type(obj).__name__}")

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        sizes = [len(side) if isinstance(side, str | list | tuple) else side for side in (left, right)]
        if all(isinstance(size, int) for size in sizes):
            product = sizes[0] * sizes[1] if operator == "*" else abs(sizes[0]).bit_length() * sizes[1]
            if product > OUTPUT_LIMIT:
                raise OverflowError(f"{operator} gives more than {OUTPUT_LIMIT} characters or digits")
        return super().call_binop(context, operator, left, right)


def _raise_exception(message: str) -> None:
    raise _RefusedError(message)


def _tojson(value: Any, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@functools.lru_cache(maxsize=64)
def _compiled(text: str, date: str) -> jinja2.Template:
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    # Nothing random, so that the prompt is always the same.
    del environment.filters["random"], environment.globals["lipsum"]
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = datetime.date.fromisoformat(date).strftime
    environment.globals["dict"] = lambda *fields, **more: dict(*fields, **more)
    environment.globals["namespace"] = _Namespace
    return environment.from_string(text)


def answers(
    template: str,
    date: str,
    conversations: Sequence[Sequence[Mapping[str, str]]] | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Iterator[bytes]:
    """What a child process answers: every conversation, rendered, or else the template's literals."""
    if conversations is None:
        yield json.dumps(template_literals(template, date)).encode()
    for messages in conversations or ():
        yield json.dumps(render_untrusted(template, date, messages, variables or {})).encode()


def render_untrusted(
    template: str, date: str, messages: Sequence[Mapping[str, str]], variables: Mapping[str, Any]
) -> dict[str, str]:
    """The conversation as `{"text": …}`, or `{"refused": …}` (by the template itself) or `{"fault": …}`."""
    limit = OUTPUT_LIMIT + 4 * sum(len(message["content"]) for message in messages)

    def render() -> dict[str, str]:
        pieces, written = [], 0
        given = dict(messages=messages, tools=None, documents=None) | dict(variables)
        for piece in _compiled(template, date).generate(**given):
            pieces.append(piece)
            written += len(piece)
            if written > limit:
                raise OverflowError(f"it writes more than {limit} characters")
        return {"text": "".join(pieces)}

    return _answered(render)


def template_literals(template: str, date: str) -> dict[str, str]:
    """All texts that stand in a template, in it or in its expressions, as `{"text": …}` or `{"fault": …}`."""

    def literals() -> dict[str, str]:
        tree = _compiled(template, date).environment.parse(template)
        found = [node.data for node in tree.find_all(jinja2.nodes.TemplateData)]
        found += [node.value for node in tree.find_all(jinja2.nodes.Const) if isinstance(node.value, str)]
        return {"text": "\0".join(found)}

    return _answered(literals)


def _answered(answer: Callable[[], dict[str, str]]) -> dict[str, str]:
    try:
        return answer()
    except _RefusedError as error:
        return {"refused": str(error)[:_FAULT_LIMIT]}
    except jinja2.TemplateSyntaxError as error:
        return {"fault": f"has an error in line {error.lineno}: {str(error.message)[:_FAULT_LIMIT]}"}
    except jinja2.exceptions.SecurityError as error:
        return {"fault": f"accesses something forbidden: {str(error)[:_FAULT_LIMIT]}"}
    except MemoryError:
        return {"fault": "needs more memory than a template may use"}
    except Exception as error:  # untrusted code can raise anything
        return {"fault": f"fails: {str(error)[:_FAULT_LIMIT] or type(error).__name__}"}
