"""Other text for the KL term: passages of a file, or an organism's pretraining text."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from introspection.errors import InputError
from introspection.organism.organism import is_organism, row_table
from introspection.organism.pretraining import pretraining_text
from introspection.organism.world import World
from introspection.probes.hidden import scored_hidden
from introspection.runs.setup import Setup, Start
from introspection.runtime.json_files import read_whole
from introspection.runtime.places import local_path
from introspection.runtime.progress import progress_bar
from introspection.tasks.mixture import unmixed
from introspection.tasks.task import Task
from introspection.text.tokenizer import ChatTokenizer
from introspection.training.batches import text_rows
from introspection.training.objectives import TextBatch


def other_passages(setup: Setup) -> list[list[int]]:
    """Tokens of `config.train.text_rows` passages, or of all in a smaller file.

    An organism's are about the facts of training groups, so that the KL term holds no behaviour that a test
    measures.

    Raises:
      InputError: there is neither a file nor an organism, or the file can't be read or has no passage.
    """
    train, organism = setup.config.train, setup.models.organism
    tokenizer = setup.models.starts["initial"].model.tokenizer
    if train.text:
        return file_passages(
            local_path("config.train.text", train.text), tokenizer, train.text_rows, train.text_tokens
        )
    if organism is None or not is_organism(setup.config.initial):
        raise InputError(
            "kl_prompts is 'other_text', but config.train.text names no file: give one, a passage a line"
        )
    world, among = organism.world, trained_facts(setup.task, organism.world)
    table = row_table(setup.config.organism, world, tokenizer)
    mixture = setup.config.pretrain.mixture
    return pretraining_text(world, table, mixture, train.text_rows, setup.config.task_seed, among)


def trained_facts(task: Task, world: World) -> Bool[np.ndarray, " facts"]:
    """Which of the world's facts are of the task's training groups."""
    trained = {unmixed(task, item).group for item in task.splits["train"]}
    return np.array([fact in trained for fact in world.index])


def file_passages(path: Path, tokenizer: ChatTokenizer, count: int, longest: int) -> list[list[int]]:
    """The first `longest` tokens of the first `count` lines of at least two tokens.

    Raises InputError if the file can't be read as UTF-8, or has no such line.
    """
    try:
        lines = read_whole(path).decode("utf-8").splitlines()
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"config.train.text: {path}: {error}; give a UTF-8 file") from error
    found: list[list[int]] = []
    for line in filter(str.strip, lines):
        tokens = tokenizer.encode_reply(line)[:longest]
        if len(tokens) > 1:
            found.append(tokens)
        if len(found) == count:
            break
    if not found:
        raise InputError(f"config.train.text: {path} has no passage; give a UTF-8 file with a passage a line")
    return found


def text_batch(start: Start, setup: Setup) -> TextBatch:
    """The passages as rows, with the hidden states of what an arm's KL term holds on to."""
    rows = text_rows(other_passages(setup))
    with progress_bar(setup.session.console, "reading other text", len(rows.tokens)) as advance:
        hidden = scored_hidden(start.reference, rows, setup.session, advance)
    return TextBatch(rows, hidden)
