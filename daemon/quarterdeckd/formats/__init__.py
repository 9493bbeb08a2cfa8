"""What a model file is, told by its content and never by loading it; runs in a throw-away process."""
