"""What MLflow holds, read from its folder, its database or its server, and taken in by plain messages."""
