"""Who answers: one pure-functional Flax linen decoder and its adapters."""
