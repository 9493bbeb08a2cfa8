"""Files that the ledger and the children share: Parquet, artefacts, queries over them."""
