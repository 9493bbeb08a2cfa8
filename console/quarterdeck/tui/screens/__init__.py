"""One screen a noun; each says what it lists, how a row is drawn, and which acts it offers."""
