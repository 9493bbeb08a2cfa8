"""The command line: one generated command a message, short forms for what people do all day."""
