"""What the screens are made of; none of them knows a noun."""
