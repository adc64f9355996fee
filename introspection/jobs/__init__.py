"""Whole experiments as functions: the main job, pretraining an organism, comparing stored models."""
