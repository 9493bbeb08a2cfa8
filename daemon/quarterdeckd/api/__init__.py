"""From a frame on the socket to a kept act and back."""
