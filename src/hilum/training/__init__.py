"""Training: everything that needs PyTorch, and what only training uses."""
