"""The door of other decks: bundles come in, are deployed and rolled back."""
