"""Features: values of entities over time, read as they were known at an instant."""
