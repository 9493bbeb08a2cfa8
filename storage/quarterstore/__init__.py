"""What Quarterdeck keeps: the records every side speaks, the shelf of files, and the daemon's ledger."""
