"""What a model does: scoring, decoding, behaviour and explanation."""
