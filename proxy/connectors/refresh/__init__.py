"""Keeping tokens fresh: one refresh at a time for each connection, in whichever process, and none lost.

``lease``, ``ways``, ``renewed`` and ``events`` decide and describe without I/O; ``ledger`` and ``settlement``
keep leases, intents and outcomes in the vault; ``renewal`` is one refresh from claim to commit; ``unsaved``
keeps what the store does not take; ``refresher`` starts them; ``schedule`` looks after connections that
nobody calls and attempts that nobody ended.
"""
