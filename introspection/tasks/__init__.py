"""What is asked: items, cues, candidates and the explanation grammar."""
