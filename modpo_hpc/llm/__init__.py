"""One client for everything that speaks HTTP to a model: pace, retries, budget, claims, and the ledger of answers."""
