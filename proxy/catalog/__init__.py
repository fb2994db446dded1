"""The services: what each of them is (``model``), read strictly from one TOML file each (``loader``)."""
