"""The two real OAuth servers, one of each a session."""

from collections.abc import Iterator

import pytest
from support.providers.oidc import Oidc
from support.providers.real import Provider
from support.providers.toolkit import Toolkit


@pytest.fixture(scope="session")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolkit]:
    """django-oauth-toolkit."""
    with Toolkit(tmp_path_factory.mktemp("toolkit")) as one:
        yield one


@pytest.fixture(scope="session")
def oidc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oidc]:
    """oidc-provider."""
    with Oidc(tmp_path_factory.mktemp("oidc")) as one:
        yield one


@pytest.fixture(params=["toolkit", pytest.param("oidc", marks=pytest.mark.node)])
def provider(request: pytest.FixtureRequest) -> Iterator[Provider]:
    """Each of them in turn, with an hour's lifetime, no delays and no grace."""
    one: Provider = request.getfixturevalue(request.param)
    plain = {"access_lifetime_s": 3600, "before_s": 0, "after_s": 0}
    if isinstance(one, Toolkit):
        plain["grace_s"] = 0
    one.adjust(**plain)
    yield one
    one.adjust(**plain)
