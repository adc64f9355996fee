"""Scruples' anecdotes for tests."""


def scruples(**changes) -> dict:
    """One anecdote as the publisher writes it."""
    fields = {
        "id": "a1",
        "post_id": "p1",
        "action": {"description": "x", "pronormative_score": 3, "contranormative_score": 5},
        "title": "AITA for singing?",
        "text": "I sang at night. My flatmate woke up.",
        "post_type": "HISTORICAL",
        "label_scores": {"AUTHOR": 4, "OTHER": 3, "EVERYBODY": 1, "NOBODY": 0, "INFO": 0},
        "label": "AUTHOR",
        "binarized_label_scores": {"RIGHT": 3, "WRONG": 5},
        "binarized_label": "WRONG",
    }
    return {name: value for name, value in (fields | changes).items() if value != "left out"}
