"""How fast and how small: each promise about speed or memory, measured against its alternative."""
