"""Search: one language over runs, in two vocabularies; a text becomes a tree, a tree becomes a test of one run."""
