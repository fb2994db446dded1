"""The data plane: takes a request, finds whose it is, forwards it with the right account's token."""
