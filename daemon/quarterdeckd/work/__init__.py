"""What the daemon does on its own: the clock, the supervisor, the link to serving."""
