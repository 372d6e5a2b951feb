"""Text from models: engines that answer prompts, and the servers behind them."""
