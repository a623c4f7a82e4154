"""What has left an owner, and what it promises: epsilons, the ledger file, and totals."""
