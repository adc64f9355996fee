"""Introspective coupling: do a language model's explanations follow its own current behaviour?

    import introspection

    run = introspection.load_run("runs/quickstart")
    run.table()                                        # rows for pandas.DataFrame or polars.DataFrame
    model = introspection.load_model("runs/quickstart:kl:0")
    task = introspection.load_task("invented_world")
    items = task.splits["test"][:40]
    decisions = introspection.probe(model, items)
    explanations = introspection.explain(model, items, task)

Everything is loaded when it is first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from introspection.api import Run, compare, explain, load_model, load_run, load_task, probe

__all__ = ["Run", "compare", "explain", "load_model", "load_run", "load_task", "probe"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'introspection' has no attribute {name!r}")
    from introspection import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted(__all__)
