"""Ways in besides the socket: each translates, then dispatches."""
