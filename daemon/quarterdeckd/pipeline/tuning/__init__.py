"""Tuning: one process asks and tells, workers forked from it run the trials."""
