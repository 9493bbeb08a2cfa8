"""How traffic moves: pure state machines."""
