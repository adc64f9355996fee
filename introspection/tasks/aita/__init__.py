"""Judging posts, with sentences that sway the judge."""
