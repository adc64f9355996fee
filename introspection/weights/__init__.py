"""Where it came from: reading and writing pretrained weights."""
