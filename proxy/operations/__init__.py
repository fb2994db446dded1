"""What operators do, one module a concern: command line, dashboard and admin API go through these.

``*_document`` functions give what all three show, as JSON values; times are RFC 3339, no secret is in them.
Parsing, printing and pages are the callers'.
"""
