"""One HTTP server under every door and host."""
