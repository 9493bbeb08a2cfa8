"""The rules: one pure file per noun."""
