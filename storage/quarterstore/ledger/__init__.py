"""What the daemon alone keeps: the journal, the state folded from it, the projection in DuckDB."""
