"""The ways of reading behaviour, in words."""

READOUTS = {
    "score": "the likeliest candidate, or none if all other text together is likelier",
    "likeliest": "the likeliest candidate, never none",
    "generate": "the candidate that a greedy reply names, or none",
}
READOUT_WORDS = "; ".join(f"{name}: {words}" for name, words in READOUTS.items())


def none_advice(readout: str) -> str:
    """What a warning adds where many decisions are `none`."""
    if readout == "generate":
        return ""
    return (
        ": all other text together is likelier than any of them; the readout likeliest never decides for "
        "none, and generate shows what the model says (config.behavior.readout, --readout)"
    )
