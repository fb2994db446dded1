"""The connectors module: which accounts are connected, and their living tokens."""
