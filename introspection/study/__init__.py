"""Many bases, one question: pooling, claims, verdicts and the page of a study."""
