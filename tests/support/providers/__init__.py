"""OAuth servers for tests: two real ones (``toolkit``, ``oidc``) and one that answers badly (``scripted``)."""
