"""The admin API, ``/api/v1``: the operations of ``proxy.operations.table`` for programs."""
