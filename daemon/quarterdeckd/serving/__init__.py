"""The processes that answer predictions, with or without the daemon."""
