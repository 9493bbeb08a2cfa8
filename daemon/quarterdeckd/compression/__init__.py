"""Smaller children of a model, measured against it."""
