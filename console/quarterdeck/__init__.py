"""What a person or a script holds: the client, the command line, the console."""
