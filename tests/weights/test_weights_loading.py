"""Each of two processes reads its own part of a checkpoint's bytes, and all of it is there together."""

import pytest

from experiments.benchmarks.sharded_loading import Size, load_in_processes, write_checkpoint

SIZE = Size(vocab_size=512, width=768, layers=3, mlp_width=2048, shard_bytes=30_000_000)


@pytest.mark.slow
def test_two_processes_read_about_half_of_the_bytes_each(tmp_path):
    total = write_checkpoint(tmp_path / "model", SIZE)
    assert 50e6 < total < 100e6
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    (alone,) = load_in_processes(tmp_path / "model", SIZE, 1)
    assert alone["read"] == total
    # The norms are copied to every device, and so are read by both.
    copied = 4 * (2 * SIZE.layers + 1) * SIZE.width
    for process in load_in_processes(tmp_path / "model", SIZE, 2):
        assert process["read"] == (total - copied) / 2 + copied
        assert process["read"] < 0.501 * total
        assert process["held"] == (total - copied) / 2 + 2 * copied  # on two devices
