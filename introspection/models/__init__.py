"""One pure-functional Flax linen decoder and its adapters."""
