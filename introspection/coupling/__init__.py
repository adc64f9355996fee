"""Whether explanations and behaviours agree: labels, measures, statistics, controls and the matrix."""
