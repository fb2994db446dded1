"""The control plane: its own listeners and credentials; nothing of the data plane is served here."""
