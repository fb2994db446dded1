"""Requests inside requests: batches, whose parts are judged and rewritten as if each came alone (design §7).

``multipart`` reads Google's batches, ``objects`` Graph's; ``parts`` is what both make of them. ``judging``
decides about each part: target, method, permits, host, key. ``answers`` is the way back. What cannot be read
in one way only is refused, and one refused part refuses the batch. All pure.
"""
