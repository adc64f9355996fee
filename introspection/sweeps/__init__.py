"""Many points of one config: the plan, the runs, the summary."""
