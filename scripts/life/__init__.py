"""The parts of the model's life that `demo_life.py` plays."""
