"""Addresses in answers: what names the service's hosts becomes an address of the proxy (design §7, "Links").

``addresses`` decides what an absolute URL becomes, ``fields`` and ``members`` find such URLs in header fields
and in JSON, ``capability`` makes the addresses that carry their own authorization. All pure.
"""
