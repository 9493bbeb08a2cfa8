"""The console: screens over the socket, one a noun."""
