"""The MLflow door: the tracking server's REST, translated into acts and queries of the deck."""
