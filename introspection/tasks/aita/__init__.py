"""Judging posts, with sentences that pull a judge."""
