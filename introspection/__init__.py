"""Introspective coupling: do a language model's explanations follow its own current behaviour?"""
