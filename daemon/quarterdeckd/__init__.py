"""The daemon: owns the ledger, answers the socket, watches over jobs and serving."""
