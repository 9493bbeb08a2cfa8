"""The child's side of a job: it reads a spec, works in its folder, leaves a result."""
