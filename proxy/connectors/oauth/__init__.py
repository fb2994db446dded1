"""OAuth as a client: registrations, messages to providers, what their answers mean, and the way there.

``messages``, ``answers``, ``faults``, ``bodies`` and ``filling`` decide without I/O; ``endpoint`` sends.
"""
