"""The ways of reading behaviour, in words."""

from introspection.text.thoughts import Thought

THOUGHT_TOKENS = 256  # a smaller limit of replies to a prompt that opens a thought gets a warning
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


def cut_advice(reply_tokens: int) -> str:
    """What a warning says of replies without an end."""
    return (
        f"are cut before their end, at {reply_tokens} tokens: raise --reply-tokens "
        "(config.behavior.reply_tokens in a run)"
    )


def thought_note(thought: Thought, readout: str, reply_tokens: int) -> str:
    """What happens to a thought that prompts open, and what to set if that is not what is wanted."""
    opens, options = f"the prompt opens a thought ({thought.opener})", "(config.behavior of a run)"
    if readout != "generate":
        return (
            f"{opens}: it is closed, empty, before answers and explanations; where the model answers only "
            "after thoughts of its own, many decisions may be none: --readout=generate --reply-tokens=N "
            f"{options} reads what it then says"
        )
    note = (
        f"{opens}: replies are generated through it and read after {thought.closer}, and it is closed before "
        "explanations"
    )
    if reply_tokens >= THOUGHT_TOKENS:
        return note
    return (
        f"{note}; a thought rarely ends within {reply_tokens} tokens, and one that does not decides none: "
        f"raise --reply-tokens {options}, to thousands for most models that think"
    )
