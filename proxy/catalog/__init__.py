"""The services: what each of them is (``model``), read strictly from one TOML file each (``loader``)."""

from proxy.catalog.loader import file_hash, load_catalog, load_file, packaged_directory
from proxy.catalog.model import Catalog, Service
from proxy.catalog.params import check_config
from proxy.catalog.template import new_service_text

__all__ = [
    "Catalog",
    "Service",
    "check_config",
    "file_hash",
    "load_catalog",
    "load_file",
    "new_service_text",
    "packaged_directory",
]
