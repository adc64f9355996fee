"""The store of checkpoints: what is saved comes back on any mesh, is refused by name, or is found damaged."""

import gc
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from as_processes import as_processes
from row_files import refusal
from tiny import assert_placed, mesh_of

from introspection.checkpoints.store import CheckpointStore, CorruptCheckpointError
from introspection.errors import InputError, RunError
from introspection.runtime.mesh import parameter_shardings, put_parameters

# Orbax leaves a coroutine or two behind where a file is damaged; they are told of when they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
MESHES = ((1, 1, 1), (4, 1, 1), (1, 4, 1), (2, 2, 1), (1, 2, 2))
UPDATE = optax.adam(0.1)


@pytest.fixture(autouse=True)
def _collect_what_orbax_leaves():
    yield
    gc.collect()


def parameters(seed: int = 0) -> dict:
    """A tree with the names that are split over a mesh, and one that is not."""
    keys = jax.random.split(jax.random.key(seed), 4)
    return {
        "params": {
            "embedding": jax.random.normal(keys[0], (2, 16, 8)),
            "layers": {
                "query": {"kernel": jax.random.normal(keys[1], (2, 3, 8, 8))},
                "down": {"kernel": jax.random.normal(keys[2], (2, 3, 8, 8))},
                "norm": {"scale": jax.random.normal(keys[3], (2, 3, 8))},
            },
        }
    }


def numbers(tree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def assert_equal(tree, other) -> None:
    one, two = numbers(tree), numbers(other)
    assert one.keys() == two.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, two[name], err_msg=name)


def abstract(tree, mesh=None):
    mesh = mesh or mesh_of()
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        parameter_shardings(tree, mesh),
    )


def save(directory: Path, *steps: int, keep: int = 0) -> dict[int, tuple]:
    """Saves a state a step and returns what was saved."""
    saved = {}
    with CheckpointStore(directory, keep) as store:
        for step in steps:
            trainable = parameters(step)
            saved[step] = trainable, UPDATE.update(trainable, UPDATE.init(trainable))[1]
            store.save(step, *saved[step], {"arm": "kl"})
        store.wait()
    return saved


def restore(directory: Path, step: int, tree, optimizer=None):
    with CheckpointStore(directory) as store:
        return store.restore(step, tree, optimizer)


# Each from two others.
@pytest.mark.parametrize(
    ("saved_on", "loaded_on"),
    [
        *((one, MESHES[(i + step) % len(MESHES)]) for step in (1, 2) for i, one in enumerate(MESHES)),
        ((2, 2, 1), (4, 1, 1)),
    ],
)
def test_a_checkpoint_of_one_mesh_comes_back_on_another(tmp_path, saved_on, loaded_on):
    first, second = mesh_of(*saved_on), mesh_of(*loaded_on)
    trainable = put_parameters(parameters(), first)
    optimizer = UPDATE.init(trainable)
    with CheckpointStore(tmp_path) as store:
        store.save(3, trainable, optimizer, {})
        store.wait()
    loaded, loaded_optimizer = restore(tmp_path, 3, abstract(trainable, second), abstract(optimizer, second))
    assert_equal(loaded, trainable)
    assert_equal(loaded_optimizer, optimizer)
    assert_placed(loaded, second)
    kernel = loaded["params"]["layers"]["query"]["kernel"]
    parts = loaded_on[1] * loaded_on[2]
    assert kernel.addressable_shards[0].data.size == kernel.size // parts


def test_parts_load_alone(tmp_path):
    saved = save(tmp_path, 5)
    loaded, optimizer = restore(tmp_path, 5, abstract(saved[5][0]))
    assert optimizer is None
    assert_equal(loaded, saved[5][0])
    with CheckpointStore(tmp_path) as store:
        metadata = store.metadata(5)
    assert (metadata["arm"], metadata["step"]) == ("kl", 5)


def test_a_mismatch_names_every_parameter_and_both_shapes(tmp_path):
    save(tmp_path, 0)
    wanted = parameters()
    wanted["params"]["layers"]["query"]["kernel"] = jnp.zeros((2, 3, 8, 4))  # misshapen
    del wanted["params"]["layers"]["norm"]  # surplus in the checkpoint
    wanted["params"]["layers"]["gate"] = {"kernel": jnp.zeros((2, 3, 8, 16))}  # missing in it
    message = refusal(
        restore,
        tmp_path,
        0,
        abstract(wanted),
        says=[
            "(3 parameters)",
            "params/layers/query/kernel is (2, 3, 8, 8) in the checkpoint and (2, 3, 8, 4) in the model",
            "params/layers/norm/scale (2, 3, 8) is not in the model",
            "params/layers/gate/kernel (2, 3, 8, 16) is missing in the checkpoint",
        ],
    )
    assert "embedding" not in message


def test_an_unknown_step_lists_those_there_are(tmp_path):
    saved = save(tmp_path, 0, 10)
    with pytest.raises(InputError, match=r"no checkpoint at step 7; the steps are: 0, 10"):
        restore(tmp_path, 7, abstract(saved[0][0]))


def test_keep_holds_step_0_and_the_newest(tmp_path):
    saved = save(tmp_path, 0, 10, 20, 30, 40, keep=2)
    with CheckpointStore(tmp_path, 2) as store:
        assert store.steps() == [0, 30, 40]
    for step in (0, 30, 40):
        assert_equal(restore(tmp_path, step, abstract(saved[0][0]))[0], saved[step][0])
    save(tmp_path / "all", 0, 10, 20, 30)
    with CheckpointStore(tmp_path / "all") as store:
        assert store.steps() == [0, 10, 20, 30]


def test_what_is_donated_right_after_saving_was_saved_as_it_was(tmp_path):
    trainable = jax.tree.map(lambda leaf: jnp.tile(leaf, (1,) * (leaf.ndim - 1) + (64,)), parameters())
    optimizer = UPDATE.init(trainable)
    expected = jax.tree.map(lambda leaf: np.array(leaf, copy=True), (trainable, optimizer))
    overwrite = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * 0 - 1, tree), donate_argnums=0)
    with CheckpointStore(tmp_path) as store:
        store.save(1, trainable, optimizer, {})
        state = overwrite((trainable, optimizer))  # at once: the save goes on in the background
        for _ in range(5):
            state = overwrite(state)
        jax.block_until_ready(state)
        store.wait()
    loaded = restore(tmp_path, 1, abstract(trainable), abstract(optimizer))
    assert_equal(loaded, expected)


def array_file(directory: Path, step: int, part: str) -> Path:
    files = [path for path in (directory / str(step) / part).rglob("d/*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0x01
    path.write_bytes(bytes(content))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("part", ["trainable", "optimizer"])
@pytest.mark.parametrize("damage", [flip, cut, Path.unlink])
def test_damage_is_found(tmp_path, damage, part):
    saved = save(tmp_path, 0, 10)
    damage(array_file(tmp_path, 10, part))
    with pytest.raises(CorruptCheckpointError, match=r"10: \S") as caught:
        restore(tmp_path, 10, *map(abstract, saved[10]))
    assert "\n" not in str(caught.value)
    assert_equal(restore(tmp_path, 0, *map(abstract, saved[0])), saved[0])


@pytest.mark.parametrize(
    "name", ["trainable/manifest.ocdbt", "trainable/_METADATA", "metadata/manifest.ocdbt"]
)
def test_a_missing_file_is_found(tmp_path, name):
    saved = save(tmp_path, 10)
    (tmp_path / "10" / name).unlink()
    with pytest.raises(CorruptCheckpointError):
        restore(tmp_path, 10, abstract(saved[10][0]))


def changed(load):
    def loaded(*arguments):
        found = load(*arguments)
        return {**found, "trainable": jax.tree.map(lambda leaf: leaf + 1, found["trainable"])}

    return loaded


def unreadable(load):
    def fails(*arguments):
        raise OSError("unreadable here")

    return fails


@pytest.mark.parametrize(
    ("method", "damage"),
    [
        ("load_checkpointables", changed),
        ("load_checkpointables", unreadable),
        ("checkpointables_metadata", unreadable),
    ],
)
def test_damage_that_one_process_sees_is_raised_by_all(tmp_path, monkeypatch, method, damage):
    saved = save(tmp_path, 10)
    wanted = abstract(saved[10][0])
    with CheckpointStore(tmp_path) as here, CheckpointStore(tmp_path) as there:
        monkeypatch.setattr(there._checkpointer, method, damage(getattr(there._checkpointer, method)))
        ended = as_processes(monkeypatch, *(lambda s=s: s.restore(10, wanted) for s in (here, there)))
    assert [type(one) for one in ended] == [CorruptCheckpointError] * 2


def test_a_deleted_step_is_gone(tmp_path):
    save(tmp_path, 0, 10)
    with CheckpointStore(tmp_path) as store:
        store.delete(10)
        assert store.steps() == [0]
        trainable = parameters(11)
        store.save(10, trainable, UPDATE.init(trainable), {})
        store.wait()
        assert store.steps() == [0, 10]
    assert_equal(restore(tmp_path, 10, abstract(trainable))[0], trainable)


def test_a_half_written_step_is_no_step(tmp_path):
    save(tmp_path, 0)
    left = tmp_path / "10.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "0", left)
    with CheckpointStore(tmp_path) as store:
        assert store.steps() == [0]
    assert not left.exists()


def test_a_reader_leaves_alone_what_a_run_is_writing(tmp_path):
    saved = save(tmp_path, 0)
    being_written = tmp_path / "10.orbax-checkpoint-tmp"
    shutil.copytree(tmp_path / "0", being_written)
    with CheckpointStore(tmp_path, read_only=True) as store:
        assert_equal(store.restore(0, abstract(saved[0][0]))[0], saved[0][0])
    assert being_written.exists()
    with pytest.raises(InputError, match="no checkpoints found"):
        CheckpointStore(tmp_path / "none", read_only=True)
    assert not (tmp_path / "none").exists()


def test_a_save_that_fails_says_so_and_keeps_earlier_steps(tmp_path, monkeypatch):
    saved = save(tmp_path, 0)
    store = CheckpointStore(tmp_path)

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store._checkpointer, "save_checkpointables_async", full)
    with pytest.raises(RunError, match=r"could not save step 10: the disk is full; earlier steps are kept"):
        store.save(10, *saved[0], {})
    store.close()
    assert_equal(restore(tmp_path, 0, abstract(saved[0][0]))[0], saved[0][0])
